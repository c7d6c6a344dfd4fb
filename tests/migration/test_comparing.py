"""The comparison of projects: what it finds, and what it leaves out because it differs between two runs of one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from .catalogue import PROJECTS, Ask, Project, Talk
from .projects import differences
from .running import Answer, Run

PROJECT = Project("x", ["x"], "uvicorn x:app", "README", [Ask("/")], talks=[Talk("/ws", ["a"], 1)])
FIELDS = (("content-type", "text/plain"), ("x-id", "1"))
ANSWER = Answer(200, FIELDS, b"it is 12:00, all is well")
LOG = "Application startup complete.\nUvicorn running on http://x\n"
FIRST = Run({"/": ANSWER}, {"/ws": ("open, None", "echo 17")}, False, 0, 0.1, LOG)
SECOND = replace(
    FIRST, answers={"/": replace(ANSWER, body=b"it is 12:01, all is well")}, talks={"/ws": ("open, None", "echo 18")}
)
OURS = replace(SECOND, log=LOG.replace("Uvicorn", "Fastserve"))


def found(**changes: Any) -> list[str]:
    return list(differences(PROJECT, FIRST, SECOND, replace(OURS, **changes)))


def answer(**changes: Any) -> dict[str, Answer]:
    return {"/": replace(ANSWER, **changes)}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"answers": answer(body=b"it is 12:59, all is well")},
        {"answers": answer(fields=(*FIELDS, ("content-length", "24")))},
        {"answers": answer(fields=FIELDS[::-1])},
        {"talks": {"/ws": ("open, None", "echo 99")}},
        {"stop_s": 1.9},
    ],
    ids=["nothing", "what varies", "framing", "the order of fields", "what varies in a message", "a moment"],
)
def test_this_is_no_difference(changes: dict[str, Any]) -> None:
    assert found(**changes) == []


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"answers": answer(status=404)}, "/: 404, with uvicorn 200"),
        ({"answers": answer(body=b"it is 12:00, all is lost")}, "/: another body"),
        ({"answers": answer(body=b"it is 12:00")}, "/: another body"),
        ({"answers": answer(fields=FIELDS[:1])}, "x-id"),
        ({"answers": answer(fields=(FIELDS[0], ("x-id", "2")))}, "x-id"),
        ({"answers": answer(fields=(*FIELDS, ("x-more", "")))}, "x-more"),
        ({"talks": {"/ws": ("open, None", "other 17")}}, "WebSocket /ws"),
        ({"talks": {"/ws": ("open, None",)}}, "WebSocket /ws"),
        ({"talks": {"/ws": ("refused with 403",)}}, "WebSocket /ws"),
        ({"status": 1}, "it ended with 1, uvicorn with 0"),
        ({"status": None}, "it ended with None"),
        ({"stop_s": 9.0}, "it took 9.0 s"),
        ({"log": OURS.log + "Traceback"}, "a traceback"),
        ({"log": "Application startup complete."}, "'Uvicorn running on' is not in the log"),
    ],
)
def test_this_is_a_difference(changes: dict[str, Any], text: str) -> None:
    (difference,) = found(**changes)
    assert text in difference


def test_a_websocket_that_uvicorn_does_not_open_proves_nothing() -> None:
    refused: dict[str, tuple[str, ...]] = {"/ws": ("refused with 403",)}
    runs = [replace(run, talks=refused) for run in (FIRST, SECOND, OURS)]
    assert list(differences(PROJECT, *runs)) == ["WebSocket /ws: ('refused with 403',) with uvicorn itself"]


def test_a_field_that_varies_has_to_be_there() -> None:
    second = replace(SECOND, answers={"/": replace(ANSWER, fields=(FIELDS[0], ("x-id", "2")))})
    assert (
        list(differences(PROJECT, FIRST, second, replace(OURS, answers=answer(fields=(FIELDS[0], ("x-id", "3"))))))
        == []
    )
    (difference,) = differences(PROJECT, FIRST, second, replace(OURS, answers=answer(fields=FIELDS[:1])))
    assert difference == "/: other fields than with uvicorn"


def test_a_file_that_changes_has_to_be_noticed() -> None:
    project = replace(PROJECT, reloads=("main.py", "a", "b"))
    assert list(differences(project, FIRST, SECOND, OURS)) == ["it was not started anew when a file changed"]
    assert list(differences(project, FIRST, SECOND, replace(OURS, reloaded=True))) == []


@pytest.mark.parametrize("project", PROJECTS, ids=lambda project: project.name)
def test_a_command_names_one_server_or_the_other(project: Project) -> None:
    ours = project.with_fastserve()
    assert project.imports or ours == "" or "uvicorn" not in ours
    assert project.imports or project.environment or "uvicorn" in project.command
    assert project.asks
