"""fastserve: a multi-process ASGI server."""

import os

from fastserve.sources import prefer_sources

if os.environ.get("FASTSERVE_PURE", "") not in ("", "0"):
    prefer_sources()  # before anything that may be compiled is imported

from fastserve.version import VERSION

__version__ = VERSION

__all__ = ["__version__"]
