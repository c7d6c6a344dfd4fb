"""What the C library does with memory that is freed (docs/decisions/0012-memory-allocator.md)."""

from __future__ import annotations

import os
from collections.abc import Mapping

_TRIM_BYTES = 16 * 1024 * 1024
_MAP_BYTES = 4 * 1024 * 1024

# Parameters of mallopt(3), from <malloc.h> of glibc.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

_CHOSEN_BY = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_MAX_")


def keep_freed_memory(environment: Mapping[str, str] = os.environ) -> bool:
    """Have glibc keep some freed memory for the next body that comes, and tell whether it does.

    It would give the pieces in which large bodies are received back to the system, one by one, and get them anew,
    page by page. Where the user has told it what to do, or with another C library, nothing changes.
    """
    if any(name in environment for name in _CHOSEN_BY) or "malloc" in environment.get("GLIBC_TUNABLES", ""):
        return False
    try:
        import ctypes

        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - other C libraries have no such function
        set_option = library.mallopt
    except (ImportError, OSError, AttributeError):
        return False
    return bool(set_option(_M_TRIM_THRESHOLD, _TRIM_BYTES) and set_option(_M_MMAP_THRESHOLD, _MAP_BYTES))
