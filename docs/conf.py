"""Sphinx configuration: `make docs`."""

from fastserve.version import VERSION

project = "fastserve"
author = "the fastserve authors"
copyright = "2026, the fastserve authors"  # noqa: A001
release = VERSION

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"fastserve {VERSION}"
