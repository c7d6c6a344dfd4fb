"""The process that watches files for `--reload`. It is run as a program, and imports nothing of fastserve.

It is told what to watch by JSON in its argument, and writes a line of JSON with the paths of what has changed. In a
process of its own, because what watches has threads, and the parent of the workers forks.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

# What editors and interpreters write besides the files that people mean; as uvicorn has it.
_INCLUDED = ("*.py",)
_EXCLUDED = (".*", ".py[cod]", ".sw.*", "~*")
_EXCLUDED_FOLDERS = ("__pycache__", "node_modules")
_LOOK_AT_PARENT_MS = 500
_BURST_MS = 50  # of quiet, that ends a number of changes


@dataclass(frozen=True, slots=True)
class Watched:
    """Which files are watched.

    directories: where, and below. includes, excludes: patterns for the names of files. excluded: directories in which
    nothing is watched. delay_s: between two looks.
    """

    directories: tuple[str, ...]
    includes: tuple[str, ...]
    excludes: tuple[str, ...]
    excluded: tuple[str, ...]
    delay_s: float

    def to_json(self) -> str:
        """Return what `from_json` takes."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Watched:
        """Return what another process has described."""
        content = json.loads(text)
        delay_s = content.pop("delay_s")
        return cls(**{name: tuple(texts) for name, texts in content.items()}, delay_s=delay_s)

    def has(self, path: Path) -> bool:
        """Tell whether this file is watched."""
        if not any(path.is_relative_to(each) for each in self.directories):
            return False
        for pattern in self.includes:
            if path.name == pattern:
                return not self._is_out(path.parent)  # Named in full, so that no pattern excludes it.
        return (
            any(path.match(pattern) for pattern in self.includes)
            and not any(path.match(pattern) for pattern in self.excludes)
            and not self._is_out(path.parent)
        )

    def _is_out(self, folder: Path) -> bool:
        directory = next(each for each in self.directories if folder.is_relative_to(each))
        is_out = any(folder.is_relative_to(each) for each in self.excluded)
        return is_out or any(is_hidden(part) for part in folder.relative_to(directory).parts)

    def files(self) -> Iterator[Path]:
        """Yield all files that are watched."""
        for directory in self.directories:
            for folder, folders, names in os.walk(directory):
                folders[:] = [each for each in folders if not is_hidden(each) and not _is_environment(folder, each)]
                yield from (path for name in names if self.has(path := Path(folder, name)))


def watched(directories: Iterable[str], includes: Sequence[str], excludes: Sequence[str], delay_s: float) -> Watched:
    """Return which files the options say, as uvicorn understands them: a pattern may also be a directory."""
    folders = [Path(each).resolve() for each in (*directories, *includes) if Path(each).is_dir()]
    left_out = [Path(each).resolve() for each in excludes if Path(each).is_dir()]
    kept = [folder for folder in folders or [Path.cwd()] if not any(folder.is_relative_to(out) for out in left_out)]
    outermost = [folder for folder in kept if not any(other in folder.parents for other in kept)]
    return Watched(
        directories=tuple(dict.fromkeys(map(str, outermost))),
        includes=(*(each for each in _INCLUDED if each not in excludes), *includes),
        excludes=(*(each for each in _EXCLUDED if each not in includes), *excludes),
        excluded=tuple(map(str, left_out)),
        delay_s=delay_s,
    )


def is_hidden(folder: str) -> bool:
    """Tell whether nobody edits what is in a folder of this name."""
    return folder.startswith(".") or folder in _EXCLUDED_FOLDERS


def _is_environment(parent: str, folder: str) -> bool:
    return os.path.exists(os.path.join(parent, folder, "pyvenv.cfg"))


def poll(what: Watched, since_ns: int, tell: Callable[[list[str]], None], *, goes_on: Callable[[], bool]) -> None:
    """Look at the files again and again, and tell of those that have changed, come or gone.

    since_ns: from when on changes count that were made before the first look.
    """
    before = _look(what)
    missed = _written_since(since_ns, before)
    if missed:
        tell(missed)
    while goes_on():
        time.sleep(what.delay_s)
        now = _look(what)
        changed = [path for path in now.keys() | before.keys() if now.get(path) != before.get(path)]
        before = now
        if changed:
            tell(sorted(changed))


def _look(what: Watched) -> dict[str, tuple[int, int]]:
    """Return when files were written, and their sizes."""
    found = {}
    for path in what.files():
        with contextlib.suppress(OSError):  # It has gone in between.
            status = path.stat()
            found[str(path)] = (status.st_mtime_ns, status.st_size)
    return found


def _written_since(since_ns: int, files: Mapping[str, tuple[int, int]]) -> list[str]:
    now_ns = time.time_ns()
    return sorted(path for path, (written_ns, _) in files.items() if since_ns < written_ns <= now_ns)


def listen(what: Watched, since_ns: int, tell: Callable[[list[str]], None], *, goes_on: Callable[[], bool]) -> None:
    """Have the system tell of changes, by watchfiles. since_ns: see poll."""
    import watchfiles

    changes = watchfiles.watch(
        *what.directories,
        watch_filter=None,
        step=_BURST_MS,
        rust_timeout=_LOOK_AT_PARENT_MS,
        yield_on_timeout=True,
        raise_interrupt=False,
        ignore_permission_denied=True,
    )
    missed: list[str] | None = None
    for found in changes:
        if missed is None:  # The first turn: from now on, the system has been asked.
            missed = _written_since(since_ns, _look(what))
            found |= {(watchfiles.Change.modified, path) for path in missed}
        paths = sorted({path for _, path in found if what.has(Path(path))})
        if not goes_on():
            return
        if paths:
            tell(paths)
            time.sleep(what.delay_s)


def _tell(paths: list[str]) -> None:
    os.write(1, json.dumps(paths).encode() + b"\n")


def main(how: str, description: str, parent: str, since_ns: str) -> None:
    """Watch files until the process that has started this one ends. how: "listen" or "poll". parent: its pid."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # They are for the server, which ends this process.
    watch = listen if how == "listen" else poll
    with contextlib.suppress(BrokenPipeError):
        watch(Watched.from_json(description), int(since_ns), _tell, goes_on=lambda: os.getppid() == int(parent))


if __name__ == "__main__":
    main(*sys.argv[1:5])
