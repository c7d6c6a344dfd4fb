"""Start real projects as their documents say, with uvicorn and with fastserve, and compare what a client sees.

python -m tests.migration.projects [--environments FOLDER] [--table] [NAME ...]

Each project gets a fresh virtual environment, with uvicorn and with this fastserve, from the package index; with
--environments it is kept there, and used again. A project runs twice with uvicorn: what differs between these two runs,
such as a time, is not compared. Exits with 1 when anything else differs; --table prints the table of
docs/migrating.md.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path

from .catalogue import PROJECTS, Project, Talk
from .running import Answer, Run, Runner

REPOSITORY = Path(__file__).parents[2]
TABLE_HEAD = ("| project | command from | command | compared, and found the same |", "|---|---|---|---|")
WORDS = re.compile(r"[\w-]+|[^\w-]")
KEEP_ALIVE = ("connection", "keep-alive")
"""What applications send with event streams; it says nothing in HTTP/1.1."""
STARTED = re.compile(r"Application startup complete|(?:Uvicorn|Fastserve) running on")


def differences(project: Project, first: Run, second: Run, ours: Run) -> Iterator[str]:
    """Yield what fastserve does otherwise than uvicorn did twice."""
    for name, answer in ours.answers.items():
        yield from _of_an_answer(name, first.answers[name], second.answers[name], answer)
    for talk in project.talks:
        yield from _of_a_talk(talk, *(run.talks[talk.target] for run in (first, second, ours)))
    if project.reloads and not ours.reloaded:
        yield "it was not started anew when a file changed"
    yield from _of_the_end(project, first, second, ours)
    if "Traceback" in ours.log and "Traceback" not in first.log:
        yield "a traceback in the log"
    for text in set(STARTED.findall(first.log)):
        if text.replace("Uvicorn", "Fastserve") not in ours.log:
            yield f"{text!r} is not in the log"


def _of_a_talk(talk: Talk, first: Sequence[str], second: Sequence[str], ours: Sequence[str]) -> Iterator[str]:
    if len(first) <= talk.receives:
        yield f"WebSocket {talk.target}: {first} with uvicorn itself"
    elif len(ours) != len(first) or any(
        _masked(a, b) != _masked(a, b, c) for a, b, c in zip(first, second, ours, strict=True)
    ):
        yield f"WebSocket {talk.target}: {first} with uvicorn, {ours} with fastserve"


def _of_the_end(project: Project, first: Run, second: Run, ours: Run) -> Iterator[str]:
    if first.status not in project.stops_with[0]:
        yield f"SIGTERM: uvicorn itself ended with {first.status}"
    if ours.status not in project.stops_with[1]:
        yield f"SIGTERM: it ended with {ours.status}, uvicorn with {first.status}"
    if ours.stop_s > max(first.stop_s, second.stop_s) + project.lasts_s:
        yield f"SIGTERM: it took {ours.stop_s:.1f} s, with uvicorn {first.stop_s:.1f} s"


def _of_an_answer(name: str, first: Answer, second: Answer, ours: Answer) -> Iterator[str]:
    if ours.status != first.status:
        yield f"{name}: {ours.status}, with uvicorn {first.status}"
        return
    theirs, again, found = (_comparable(each) for each in (first, second, ours))
    varying = {field for field, value in theirs if (field, value) not in again}
    expected = [each for each in theirs if each[0] not in varying]
    found_here = [each for each in found if each[0] not in varying]
    if expected != found_here:
        yield f"{name}: fields {set(found_here) ^ set(expected)} differ"
    elif [field for field, _ in theirs] != [field for field, _ in found]:
        yield f"{name}: other fields than with uvicorn"
    texts = [each.body.decode("latin-1") for each in (first, second, ours)]
    if _masked(texts[0], texts[1]) != _masked(*texts):
        yield f"{name}: another body"


def _comparable(answer: Answer) -> list[tuple[str, str]]:
    """Return the fields of an answer without those that differ on purpose (docs/migrating.md)."""
    framing = {"content-length", "transfer-encoding"}
    return sorted((name, value) for name, value in answer.fields if name not in framing and (name, value) != KEEP_ALIVE)


def _masked(text: str, again: str, ours: str | None = None) -> list[str] | None:
    """Return the words of a text (of ours, if given) that are the same in both; None if there are others altogether."""
    words, others = (WORDS.findall(each) for each in (text, again))
    shown = WORDS.findall(ours) if ours is not None else words
    if len(words) != len(others):
        return None  # nothing that could be compared
    if len(shown) != len(words):
        return shown
    return [mine if a == b else "*" for a, b, mine in zip(words, others, shown, strict=True)]


def make_environment(project: Project, folder: Path, wheel: Path) -> Path:
    """Install a project, uvicorn and fastserve into a virtual environment, unless it is there."""
    done = folder / "made"
    if not done.exists():
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, *project.requires, "uvicorn[standard]"], check=True)
        done.touch()
    # Always anew: it may have changed, under the same version.
    python = str(folder / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "--force-reinstall", "--no-deps", str(wheel)]
    subprocess.run([python, "-m", "pip", "install", "--quiet", str(wheel)], check=True)
    subprocess.run(install, check=True)
    return folder


def versions(environment: Path, project: Project) -> str:
    """Return the version of a project, as pip has it."""
    name = re.split(r"[\[<>=]", project.requires[0])[0]
    shown = subprocess.run(
        [str(environment / "bin" / "python"), "-m", "pip", "show", name], capture_output=True, text=True, check=True
    )
    found = re.search(r"^Version: (.+)$", shown.stdout, re.MULTILINE)
    return found[1] if found is not None else ""


def compare(project: Project, environment: Path) -> tuple[list[str], Run]:
    """Run a project three times; return what differs, and what was seen with fastserve."""
    runner = Runner(project, environment)
    first, second = (runner.run(with_fastserve=False) for _ in range(2))
    ours = runner.run(with_fastserve=True)
    found = list(differences(project, first, second, ours))
    if found:
        print(f"--- with uvicorn\n{first.log[-3000:]}\n--- with fastserve\n{ours.log[-3000:]}", file=sys.stderr)
    return found, ours


def build_wheel(folder: Path) -> Path:
    """Build a wheel of this fastserve."""
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(REPOSITORY)]
    subprocess.run(build, check=True)
    (wheel,) = folder.glob("fastserve-*.whl")
    return wheel


def row(project: Project, version: str, ours: Run) -> str:
    """Return a row of the table in docs/migrating.md."""
    command = project.with_fastserve().replace("{port}", "8000")
    what = f"{len(ours.answers)} requests"
    if project.talks:
        what += ", WebSocket"
    if project.reloads:
        what += ", a reload"
    if project.imports:
        command += f"`, with `import fastserve as uvicorn` in `{project.imports}"
    return f"| {project.name} {version} | {project.source} | `{command}` | {what} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--environments", type=Path)
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    chosen = [each for each in PROJECTS if not given.names or each.name in given.names]
    failed, rows = 0, []
    with tempfile.TemporaryDirectory() as temporary:
        wheel = build_wheel(Path(temporary))
        for project in chosen:
            began = time.monotonic()
            name = re.sub(r"\W+", "-", " ".join(project.requires)).strip("-")
            environment = make_environment(project, (given.environments or Path(temporary)) / name, wheel)
            try:
                found, ours = compare(project, environment)
            except AssertionError as error:
                found, ours = [str(error)], Run()
            failed += bool(found)
            statuses = " ".join(str(each.status) for each in ours.answers.values())
            took_s = time.monotonic() - began
            print(f"{project.name}: {'; '.join(found) or 'the same'} ({statuses}; {took_s:.0f} s)", flush=True)
            rows.append(row(project, versions(environment, project), ours))
    if given.table:
        print("\n".join([*TABLE_HEAD, *rows]))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
