"""That freed memory is kept, as far as one can see it from outside: by the page faults that it spares."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from fastserve.worker.memory import keep_freed_memory

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this is not glibc")

# Eight pieces of 256 KiB at a time, 100 times: 64 pages each.
_PROGRAM = """
import resource, sys
from fastserve.worker.memory import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
[bytes(256 * 1024) for _ in range(8)]
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    pieces = [b"x" * (256 * 1024) for _ in range(8)]
    del pieces
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _page_faults(how: str) -> int:
    environment = {name: value for name, value in os.environ.items() if "MALLOC" not in name}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, how], capture_output=True, text=True, check=True, env=environment
    )
    return int(done.stdout)


@glibc
def test_pieces_of_large_bodies_are_not_fetched_from_the_system_again_and_again() -> None:
    assert _page_faults("keep") < 2000
    assert _page_faults("leave") > 20_000  # If not, it has become superfluous.


@pytest.mark.parametrize(
    "environment",
    [
        {"MALLOC_TRIM_THRESHOLD_": "131072"},
        {"MALLOC_MMAP_THRESHOLD_": "131072"},
        {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"},
    ],
    ids=lambda environment: next(iter(environment)),
)
def test_what_the_user_has_chosen_stays(environment: dict[str, str]) -> None:
    assert not keep_freed_memory(environment)
