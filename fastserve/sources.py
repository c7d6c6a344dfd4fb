"""Running the sources of the hot modules instead of their compiled twins, which lie beside them (FASTSERVE_PURE=1)."""

from __future__ import annotations

import sys
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader
from pathlib import Path

_PACKAGE = Path(__file__).parent


def prefer_sources() -> None:
    """Have this package's modules imported from their sources only. To be called before they are."""
    for folder in (_PACKAGE, *(path for path in _PACKAGE.rglob("*") if path.is_dir())):
        sys.path_importer_cache[str(folder)] = FileFinder(str(folder), (SourceFileLoader, SOURCE_SUFFIXES))
