"""`python -m fastserve` is the `fastserve` command."""

from fastserve.cli import run

if __name__ == "__main__":
    run()
