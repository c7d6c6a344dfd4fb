"""`python -m bench.micro`: the parts that each request passes, measured with pyperf.

The options are pyperf's, such as --fast and -o FILE; --only TEXT runs the cases with this in their names. Two files are
compared with `python -m pyperf compare_to`. FASTSERVE_PURE=1 measures the sources.
"""

from __future__ import annotations

import argparse

import pyperf

from bench.micro.cases import cases


def _pass_on(command: list[str], options: argparse.Namespace) -> None:
    if options.only:
        command += ["--only", options.only]


def main() -> None:
    """Measure each part."""
    runner = pyperf.Runner(program_args=("-m", "bench.micro"), add_cmdline_args=_pass_on)
    runner.argparser.add_argument("--only", default="", help="run the cases with this in their names")
    options = runner.parse_args()
    options.inherit_environ = [*(options.inherit_environ or ()), "FASTSERVE_PURE"]
    for name, timed in cases():
        if options.only in name:
            runner.bench_time_func(name, timed)


if __name__ == "__main__":
    main()
