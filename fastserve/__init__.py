"""fastserve: a multi-process ASGI server."""

from fastserve.version import VERSION

__version__ = VERSION

__all__ = ["__version__"]
