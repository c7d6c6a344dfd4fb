"""What the documentation says of the accelerator is so."""

from pathlib import Path

from fastserve.accel.versions import RANGES, VERIFIED, _known

PAGE = Path(__file__).parents[2] / "docs" / "accelerator.md"


def test_the_page_names_the_versions_that_were_verified() -> None:
    rows = [line.strip("|").split("|") for line in PAGE.read_text().splitlines() if line.startswith("|")]
    named = {cells[0].strip(): cells[1].strip() for cells in rows if cells[0].strip() in {*VERIFIED, *RANGES}}
    assert named == {package: _known(package) for package in (*VERIFIED, *RANGES)}
