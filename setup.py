"""The compiled build of the hot modules, which is optional. All else about the package is in setup.cfg.

FASTSERVE_EXTENSIONS=auto    compile if that is possible; the default
FASTSERVE_EXTENSIONS=no      do not compile
FASTSERVE_EXTENSIONS=require fail if it is not possible
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

PACKAGE = Path("fastserve")
DIRECTIVES = {
    "language_level": 3,
    # Methods are plain C ones, which are bound and called faster than those that look like Python functions.
    "binding": False,
    # Types are in the .pxd files: annotations are for people and mypy, and allow subclasses.
    "annotation_typing": False,
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
}
LINUX_ONLY = ("epoll",)
COST = (
    "fastserve is built without its compiled modules: it works the same, at about twice the processor time per request."
)


class BuildHotModules(build_ext):
    """Compiles the hot modules, on all CPUs, and says what it costs when that fails."""

    def finalize_options(self) -> None:
        """See build_ext."""
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def run(self) -> None:
        """See build_ext."""
        super().run()
        missing = [each.name for each in self.extensions if not Path(self.get_ext_fullpath(each.name)).exists()]
        if missing:
            self.warn(f"{COST} Not compiled: {', '.join(missing)}.")


def extensions() -> list[Extension]:
    """Return what to compile: every module that has a .pxd, and those that have no Python form."""
    wanted = os.environ.get("FASTSERVE_EXTENSIONS", "auto")
    if wanted not in ("auto", "no", "require"):
        raise SystemExit(f"FASTSERVE_EXTENSIONS: {wanted!r} is not one of auto, no, require")
    if wanted == "no" or sys.implementation.name != "cpython":
        return []
    sources = [path.with_suffix(".py") for path in PACKAGE.rglob("*.pxd") if path.with_suffix(".py").exists()]
    sources += [path for path in PACKAGE.rglob("*.pyx") if path.stem not in LINUX_ONLY or sys.platform == "linux"]
    if not sources and wanted == "require":
        raise SystemExit("FASTSERVE_EXTENSIONS=require: what is to be compiled (.pxd) is not among these sources")
    from Cython.Build import cythonize

    found = [
        Extension(
            ".".join(source.with_suffix("").parts),
            [str(source)],
            # Without -g0, nine tenths of the files would be information for debuggers.
            extra_compile_args=["-O3", "-fno-plt", "-g0"] if sys.platform == "linux" else [],
        )
        for source in sorted(sources)
    ]
    found = cythonize(found, compiler_directives=DIRECTIVES, build_dir="build/cython")
    for each in found:
        each.optional = wanted == "auto"
    return found


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildHotModules})
