"""What `uvicorn.logging` has, for programs that say `import fastserve as uvicorn`."""

from fastserve.logs import TRACE, AccessFormatter, LevelFormatter

TRACE_LOG_LEVEL = TRACE
ColourizedFormatter = LevelFormatter
DefaultFormatter = LevelFormatter

__all__ = ["TRACE_LOG_LEVEL", "AccessFormatter", "ColourizedFormatter", "DefaultFormatter"]
