"""What the documentation says of the accelerator is so."""

from pathlib import Path

from fastserve.accel.versions import VERIFIED

PAGE = Path(__file__).parents[2] / "docs" / "accelerator.md"


def test_the_page_names_the_versions_that_were_verified() -> None:
    rows = [line.strip("|").split("|") for line in PAGE.read_text().splitlines() if line.startswith("|")]
    named = {cells[0].strip(): tuple(cells[1].strip().split(", ")) for cells in rows if cells[0].strip() in VERIFIED}
    assert named == VERIFIED
