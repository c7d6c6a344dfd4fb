"""Options in the environment: whose are taken, in which order, and what is said of the others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fastserve import cli
from fastserve.environment import find_variable, load_env_file, remarks
from fastserve.errors import SettingsError

from .doubles_of_serving import Serving

pytestmark = pytest.mark.usefixtures("own_logging")


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Serving:
    """Run the command in an empty directory and an environment without options, and serve nothing."""
    for name in os.environ:
        if name.startswith(("FASTSERVE_", "UVICORN_")) or name == "WEB_CONCURRENCY":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    serving = Serving()
    monkeypatch.setattr(cli, "serve", serving)
    return serving


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("UVICORN_PORT", "9000", "port", 9000),
        ("UVICORN_HOST", "0.0.0.0", "host", "0.0.0.0"),
        ("UVICORN_ACCESS_LOG", "false", "access_log", False),
        ("UVICORN_HEADERS", "a:b c:d", "header", ("a:b", "c:d")),
        ("UVICORN_RELOAD_DIRS", "src:lib", "reload_dir", ("src", "lib")),
        ("UVICORN_RELOAD_INCLUDES", "*.html *.css", "reload_include", ("*.html", "*.css")),
        ("FASTSERVE_HEADERS", "a: b\nc: d", "header", ("a: b", "c: d")),
        ("UVICORN_TIMEOUT_WORKER_HEALTHCHECK", "60", "timeout_worker", 60.0),
        ("UVICORN_H11_MAX_INCOMPLETE_EVENT_SIZE", "9000", "limit_request_head", 9000),
        ("WEB_CONCURRENCY", "3", "workers", 3),
        ("FORWARDED_ALLOW_IPS", "10.0.0.0/8", "forwarded_allow_ips", "10.0.0.0/8"),
    ],
)
def test_variables_of_uvicorn_are_taken_as_it_takes_them(
    variable: str, text: str, name: str, value: object, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, text)
    assert serving.option("main:app", name=name) == value


def test_the_application_can_be_that_of_uvicorn(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UVICORN_APP", "main:app")
    assert cli.main([]) == 0
    assert serving.settings is not None
    assert serving.settings.app.app == "main:app"


def test_ours_decide_before_those_of_uvicorn_and_the_command_line_before_both(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UVICORN_PORT", "1")
    monkeypatch.setenv("FASTSERVE_PORT", "2")
    assert serving.option("main:app", name="port") == 2
    assert serving.option("main:app", "--port", "3", name="port") == 3


@pytest.mark.parametrize("place", ["command line", "environment", "file"])
def test_web_concurrency_decides_only_when_nothing_else_does(
    place: str, serving: Serving, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "3")
    argv = ["--workers", "2"] if place == "command line" else []
    if place == "environment":
        monkeypatch.setenv("FASTSERVE_WORKERS", "2")
    if place == "file":
        (tmp_path / "pyproject.toml").write_text("[tool.fastserve]\nworkers = 2\n")
    assert serving.option("main:app", *argv, name="workers") == 2


@pytest.mark.parametrize(
    ("variable", "text", "note"),
    [
        ("UVICORN_PORT", "9000", "INFO:     UVICORN_PORT is used as FASTSERVE_PORT.\n"),
        ("WEB_CONCURRENCY", "3", "INFO:     WEB_CONCURRENCY decides: --workers 3.\n"),
        ("FASTSERVE_PROT", "1", "WARNING:  FASTSERVE_PROT is no option of fastserve; did you mean FASTSERVE_PORT?\n"),
        ("FASTSERVE_XYZ", "1", "WARNING:  FASTSERVE_XYZ is no option of fastserve.\n"),
    ],
)
def test_what_comes_from_the_environment_is_said(
    variable: str,
    text: str,
    note: str,
    serving: Serving,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(variable, text)
    assert cli.main(["main:app", "--no-use-colors"]) == 0
    assert capsys.readouterr().err == note


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("UVICORN_PORT", "x", "UVICORN_PORT: 'x' is not a whole number"),
        ("WEB_CONCURRENCY", "many", "WEB_CONCURRENCY: 'many' is not a number"),
        ("WEB_CONCURRENCY", "0", "WEB_CONCURRENCY: 0 is less than 1"),
        ("FORWARDED_ALLOW_IPS", "foo", "FORWARDED_ALLOW_IPS: 'foo' is not an address, a network, 'unix' or '*'\n"),
        ("UVICORN_HEADERS", "foo", "UVICORN_HEADERS: 'foo' is not NAME:VALUE"),
        ("UVICORN_HTTP2", "true", "UVICORN_HTTP2: HTTP/2 is not served"),
    ],
)
def test_a_bad_variable_is_named(
    variable: str,
    text: str,
    message: str,
    serving: Serving,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(variable, text)
    assert cli.main(["main:app"]) == 2
    assert capsys.readouterr().err.startswith(f"fastserve: error: {message}")


def test_what_is_switched_off_is_not_refused(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UVICORN_HTTP2", "false")
    assert cli.main(["main:app"]) == 0


# Kubernetes describes a service called fastserve in variables of our prefix.

SERVICE = {
    "FASTSERVE_PORT": "tcp://10.0.0.7:80",
    "FASTSERVE_SERVICE_HOST": "10.0.0.7",
    "FASTSERVE_SERVICE_PORT": "80",
    "FASTSERVE_SERVICE_PORT_HTTP": "80",
    "FASTSERVE_PORT_80_TCP": "tcp://10.0.0.7:80",
    "FASTSERVE_PORT_80_TCP_ADDR": "10.0.0.7",
}


def test_the_variables_of_a_kubernetes_service_are_no_options() -> None:
    assert find_variable("port", SERVICE) is None
    assert find_variable("port", {**SERVICE, "UVICORN_PORT": "1"}) == "UVICORN_PORT"
    said = list(remarks(["port"], SERVICE))
    assert len(said) == 1
    assert said[0].startswith("FASTSERVE_PORT is that of a Kubernetes service")


@pytest.mark.parametrize("name", ["PURE", "EXTENSIONS", "WORKER_ID", "VERSION", "APP", "CONFIG"])
def test_our_other_variables_are_not_taken_for_options(name: str) -> None:
    assert list(remarks(["port"], {f"FASTSERVE_{name}": "1"})) == []


# Files of variables.


def test_the_variables_of_a_file_are_set_unless_they_are(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# a comment\nA=1\nexport B='two words'\nC=\"${A}2\"\nSET=file\nD\n")
    environ = {"SET": "before"}
    load_env_file(tmp_path / ".env", environ)
    assert environ == {"A": "1", "B": "two words", "C": "12", "SET": "before"}


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"--env-file: .*absent: there is no such file"):
        load_env_file(tmp_path / "absent", {})


def test_web_concurrency_may_be_in_the_file_and_options_may_not(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "my.env").write_text("WEB_CONCURRENCY=3\nFASTSERVE_PORT=1\nUVICORN_PORT=2\n")
    for name in ("WEB_CONCURRENCY", "FASTSERVE_PORT", "UVICORN_PORT"):
        monkeypatch.setenv(name, "")  # so that they are put back afterwards
        monkeypatch.delenv(name)
    assert serving.option("main:app", "--env-file", "my.env", name="workers") == 3
    assert serving.settings is not None
    assert serving.settings.bind.port == 8000
