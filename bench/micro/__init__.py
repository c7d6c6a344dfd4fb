"""Micro-benchmarks of the parts that each request passes, with pyperf. `python -m bench.micro --help`."""
