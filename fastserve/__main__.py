"""The `fastserve` command, which is also `python -m fastserve`."""

from __future__ import annotations

import signal
from typing import NoReturn


def run() -> NoReturn:
    """Run the command, and end the process.

    Until it is imported, which takes a moment, Ctrl-C ends the process as other programs, not with a traceback.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from fastserve import cli

    signal.signal(signal.SIGINT, before)
    cli.run()


if __name__ == "__main__":
    run()
