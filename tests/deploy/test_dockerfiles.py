"""The Dockerfiles and the compose file: what is in them, and that their commands are right."""

from __future__ import annotations

import ast
import re
from typing import Any

import pytest
import yaml

from fastserve.accel.versions import VERIFIED
from fastserve.supervisor.cpus import WORKER_MEMORY_BYTES
from fastserve.version import VERSION

from .commands import DEPLOY, PROJECT, Reader, stop_s
from .dockerfiles import Stage, complaints, stages

DOCKERFILES = {"demonstration": PROJECT / "Dockerfile", "example": DEPLOY / "docker" / "Dockerfile"}
GOOD = DOCKERFILES["example"].read_text()
each = pytest.mark.parametrize("name", DOCKERFILES)


def image(name: str) -> Stage:
    return stages(DOCKERFILES[name].read_text())[-1]


def command(stage: Stage) -> list[str]:
    found = [stage.last("ENTRYPOINT"), stage.last("CMD")]
    return [word for instruction in found if instruction is not None for word in instruction.arguments or []]


@each
def test_a_dockerfile_keeps_to_the_rules(name: str) -> None:
    assert complaints(DOCKERFILES[name].read_text()) == []


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ("python:3.13-slim", "python", "FROM python: no version is named"),
        (" --no-install-recommends", "", "apt-get install without --no-install-recommends"),
        ("apt-get update \\\n    && ", "", "apt-get install without apt-get update in the same layer"),
        (" \\\n    && rm -rf /var/lib/apt/lists/*", "", "the lists of apt-get stay in the layer"),
        (" --no-cache-dir", "", "pip keeps its cache in the layer"),
        ("WORKDIR /build\n", "", "relative to no WORKDIR"),
        ("WORKDIR /build\n", "WORKDIR build\n", "WORKDIR build is relative"),
        ("USER 10001\n", "", "it runs as root"),
        ("USER 10001\n", "USER 0\n", "it runs as root"),
        ("USER 10001\n", "USER app\n", "USER app: Kubernetes cannot see"),
        ("STOPSIGNAL SIGTERM\n", "", "it is not said that SIGTERM stops it"),
        ("STOPSIGNAL SIGTERM\n", "STOPSIGNAL SIGKILL\n", "it is not said that SIGTERM stops it"),
        ('CMD ["fastserve", ', 'CMD ["fastserve" ', "CMD is run by a shell"),
        ("USER 10001\n", "USER 10001\nCMD true\n", "only the last CMD holds"),
        ("EXPOSE 8000\n", "RUN apt-get install gcc\n", "a compiler is in the image"),
    ],
)
def test_what_breaks_a_rule_is_found(before: str, after: str, complaint: str) -> None:
    assert before in GOOD
    assert any(complaint in each for each in complaints(GOOD.replace(before, after)))


def test_an_image_without_a_health_check_or_command_is_found() -> None:
    text = "".join(line for line in GOOD.splitlines(keepends=True) if not line.startswith(("HEALTHCHECK", "CMD")))
    assert complaints(text) == ["nothing is run", "no health check"]


@pytest.mark.parametrize("text", ["RUN true", "FROM a:1\nMAINTAINER x"])
def test_what_is_not_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"before FROM|not known"):
        stages(text)


@each
def test_the_command_of_an_image_is_right(name: str, read: Reader) -> None:
    stage = image(name)
    settings = read.settings(command(stage))
    assert settings.bind.host == "0.0.0.0"  # not this machine alone: it is another one's
    assert settings.processes.workers == "auto"
    exposed = stage.last("EXPOSE")
    assert exposed is not None
    assert exposed.value == str(settings.bind.port)


@each
def test_the_health_check_asks_what_the_server_answers_by_itself(name: str, read: Reader) -> None:
    stage = image(name)
    settings = read.settings(command(stage))
    check = stage.last("HEALTHCHECK")
    assert check is not None
    program, option, code = check.arguments or []
    assert (program, option) == ("python", "-c")
    ast.parse(code)
    assert re.findall(r"https?://[^']+", code) == [f"http://127.0.0.1:{settings.bind.port}{settings.status.ready_path}"]
    # It gives up by itself, and says why, before Docker kills it.
    (own,) = re.findall(r"timeout=(\d+)", code)
    assert int(own) < int(check.flags["timeout"].removesuffix("s"))


def test_the_requirements_name_the_package_of_this_version() -> None:
    lines = (DEPLOY / "docker" / "requirements.txt").read_text().splitlines()
    names = [line for line in lines if not line.startswith("#")]
    assert names[-1] == f"./fastserve-{VERSION}.tar.gz"


def test_the_requirements_name_the_frameworks_that_are_accelerated() -> None:
    lines = (DEPLOY / "docker" / "requirements.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    assert pinned.keys() == VERIFIED.keys()
    assert [package for package, version in pinned.items() if version not in VERIFIED[package]] == []


# Compose.

SERVICE_KEYS = {
    "build", "ports", "environment", "restart", "stop_grace_period", "read_only", "tmpfs", "cap_drop", "security_opt",
    "cpus", "mem_limit",
}  # fmt: skip


def service() -> dict[str, Any]:
    content = yaml.safe_load((DEPLOY / "docker" / "compose.yaml").read_text())
    assert set(content) == {"services"}
    (found,) = content["services"].values()
    return dict(found)


def seconds(text: str) -> int:
    assert text.endswith("s")
    return int(text.removesuffix("s"))


def test_the_compose_file_has_only_what_the_specification_knows() -> None:
    # Those of them that we use; `python -m tests.deploy.linters` reads it by the whole specification.
    assert set(service()) <= SERVICE_KEYS


def test_compose_waits_for_the_server_and_publishes_its_port(read: Reader) -> None:
    found = service()
    settings = read.settings(command(image("example")), found["environment"])
    assert seconds(found["stop_grace_period"]) > stop_s(settings)
    assert [port.split(":")[-1] for port in found["ports"]] == [str(settings.bind.port)]


def test_compose_gives_each_worker_its_memory() -> None:
    found = service()
    assert int(found["mem_limit"].removesuffix("m")) * 2**20 >= found["cpus"] * WORKER_MEMORY_BYTES


def test_the_example_application_is_one() -> None:
    tree = ast.parse((DEPLOY / "docker" / "main.py").read_text())
    assert any(isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "app" for node in tree.body)
