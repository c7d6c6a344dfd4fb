"""The source distribution: what is in it, and that nobody gets less from it than from a clone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from fastserve.version import VERSION

PROJECT = Path(__file__).parents[1]
PARTS = ("fastserve", "setup.py", "setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project, without what was built in it."""
    folder = tmp_path_factory.mktemp("project")
    for part in PARTS:
        if (PROJECT / part).is_dir():
            shutil.copytree(PROJECT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.c"))
        else:
            shutil.copy(PROJECT / part, folder)
    (folder / "tests").mkdir()
    shutil.copy(PROJECT / "tests" / "test_errors.py", folder / "tests")  # what setuptools would take
    return folder


def build(folder: Path, kind: str, extensions: str) -> subprocess.CompletedProcess[str]:
    # Without an environment of its own: nothing is compiled, so there is no need for Cython.
    command = [
        sys.executable,
        "-m",
        "build",
        kind,
        "--no-isolation",
        "--skip-dependency-check",
        "--outdir",
        "dist",
        ".",
    ]
    environment = {**os.environ, "FASTSERVE_EXTENSIONS": extensions}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def unpacked(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The content of the source distribution."""
    built = build(sources, "--sdist", "no")
    assert built.returncode == 0, built.stderr
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sources / "dist" / f"fastserve-{VERSION}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / f"fastserve-{VERSION}"


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_all_of_the_package_is_in_the_source_distribution(sources: Path, unpacked: Path) -> None:
    assert names(sources / "fastserve") == names(unpacked / "fastserve")
    assert any(name.endswith(".pyx") for name in names(unpacked / "fastserve"))


def test_what_belongs_to_it_is_in_the_source_distribution_and_no_tests(unpacked: Path) -> None:
    assert names(unpacked) >= {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "setup.py", "setup.cfg"}
    assert not (unpacked / "tests").exists()


def test_a_wheel_has_the_package_its_types_and_the_licence(unpacked: Path, tmp_path: Path) -> None:
    assert build(unpacked, "--wheel", "no").returncode == 0
    (wheel,) = (unpacked / "dist").glob("*.whl")
    shutil.unpack_archive(wheel, tmp_path, "zip")
    found = names(tmp_path)
    assert {name.split("/")[0] for name in found} == {"fastserve", f"fastserve-{VERSION}.dist-info"}
    assert "fastserve/py.typed" in found
    assert f"fastserve-{VERSION}.dist-info/licenses/LICENSE" in found


def test_compiling_where_there_is_nothing_to_compile_fails_when_it_is_required(sources: Path, tmp_path: Path) -> None:
    # As in a source distribution without these files, which would otherwise be installed, and slow.
    folder = tmp_path / "project"
    shutil.copytree(sources, folder, ignore=shutil.ignore_patterns("*.pxd", "*.pyx", "dist"))
    built = build(folder, "--wheel", "require")
    assert built.returncode != 0
    assert "what is to be compiled (.pxd) is not among these sources" in built.stdout + built.stderr
