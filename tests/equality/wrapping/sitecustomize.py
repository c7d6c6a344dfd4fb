"""Python imports this at the start of every process of a suite: see equality_wrapping."""

import os

if os.environ.get("EQUALITY_RESULTS"):
    import equality_wrapping

    equality_wrapping.install()
