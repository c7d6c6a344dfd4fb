"""What changes for those who come from uvicorn, gunicorn or granian: nothing, or a sentence says what to do instead."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import click
import pytest
import uvicorn
from uvicorn.main import main as uvicorn_command

import fastserve
from fastserve import cli
from fastserve.config import Config
from fastserve.errors import SettingsError
from fastserve.peers import (
    ADVICE,
    ALIASES,
    FULFILLED,
    KEYWORDS,
    PLURALS,
    STANDS_FOR,
    STANDS_FOR_BECAUSE,
    VALUES,
    variables,
)
from fastserve.settings import declared_options, option_groups, option_name

from .doubles_of_serving import Serving

pytestmark = pytest.mark.usefixtures("own_logging")

PAGE = (Path(__file__).parents[1] / "docs" / "migrating.md").read_text()
DECLARED = [declared for _, group in option_groups() for _, declared in declared_options(group)]
FLAGS = {flag for declared in DECLARED for flag in (declared.flag, declared.off) if flag} | {"--version", "--help"}
NAMES = {option_name(declared) for declared in DECLARED} | {"app"}
DEFAULTS = {
    option_name(declared): group.__dataclass_fields__[name].default
    for _, group in option_groups()
    for name, declared in declared_options(group)
}

UVICORN = [param for param in uvicorn_command.params if isinstance(param, click.Option)]
EACH_OF_UVICORN = pytest.mark.parametrize("param", UVICORN, ids=[param.opts[0] for param in UVICORN])


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Serving:
    """Run the command in an empty directory, and serve nothing."""
    monkeypatch.chdir(tmp_path)
    serving = Serving()
    monkeypatch.setattr(cli, "serve", serving)
    return serving


def known(flag: str) -> bool:
    """Tell whether the command takes an option, or says what to do instead."""
    return flag in FLAGS or flag in ALIASES or flag in FULFILLED or flag in ADVICE


@EACH_OF_UVICORN
def test_every_option_of_uvicorn_works_or_is_explained(param: click.Option) -> None:
    assert [flag for flag in (*param.opts, *param.secondary_opts) if not known(flag)] == []


@EACH_OF_UVICORN
def test_every_option_of_uvicorn_is_in_the_guide(param: click.Option) -> None:
    assert f"`{param.opts[0]}`" in PAGE or f"`{param.opts[0]} " in PAGE


# Where the default is another one, and the guide says so.
SAFER = {
    "timeout_keep_alive": 75.0,
    "timeout_graceful_shutdown": None,  # which stands for 30 seconds
    "timeout_worker": 30.0,
    "limit_request_head": 65536,
}


@EACH_OF_UVICORN
def test_defaults_are_those_of_uvicorn_or_in_the_guide(param: click.Option) -> None:
    assert param.name is not None
    singular = {plural: name for name, plural in PLURALS.items()}
    aliased = {flag.removeprefix("--").replace("-", "_"): name for flag, name in ALIASES.items()}
    name = aliased.get(param.name, singular.get(param.name, param.name))
    if name not in DEFAULTS:
        assert known(param.opts[0])
        return
    if name in SAFER:
        assert DEFAULTS[name] == SAFER[name]
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{param.opts[0]}"))
        assert "uvicorn's is" in row or "uvicorn has none" in row
        return
    ours, theirs = DEFAULTS[name], param.default
    same_as_none = (None, (), "", 1, "UNSET", "127.0.0.1,::1")  # what both sides call no value
    assert ours == theirs or (ours in same_as_none and (theirs in same_as_none or repr(theirs) == "Sentinel.UNSET"))


ARGUMENTS = [name for name in inspect.signature(uvicorn.Config.__init__).parameters if name not in ("self", "app")]


@pytest.mark.parametrize("name", ARGUMENTS)
def test_every_argument_of_uvicorn_is_taken_or_explained(name: str) -> None:
    default = inspect.signature(uvicorn.Config.__init__).parameters[name].default
    values: dict[str, Any] = {"log_config": None, name: None if name == "log_config" else default}
    Config("main:app", **values)


@pytest.mark.parametrize("name", KEYWORDS)
def test_an_argument_that_is_not_here_is_explained(name: str) -> None:
    arguments: dict[str, Any] = {"log_config": None, name: True}
    with pytest.raises(SettingsError, match=re.escape(KEYWORDS[name])):
        Config("main:app", **arguments)


@EACH_OF_UVICORN
def test_every_variable_of_uvicorn_is_taken_or_explained(param: click.Option) -> None:
    assert param.name is not None
    taken = {variable for name in NAMES for variable in variables(name)}
    refused = {"UVICORN_" + flag.removeprefix("--").replace("-", "_").upper() for flag in (*ADVICE, *FULFILLED)}
    assert f"UVICORN_{param.name.upper()}" in taken | refused | {"UVICORN_VERSION"}


# What programs find.

# The table of attributes whose values differ.
TABLE = (
    (Path(__file__).parents[1] / "docs" / "api.md")
    .read_text()
    .partition("| attribute | here |")[2]
    .partition("\n\n")[0]
)


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Serve nothing."""


def loaded(module: Any) -> Any:
    """Return a Config that has loaded an application."""
    config = module.Config(application, log_config=None)
    config.load()
    return config


def public(of: object) -> list[str]:
    return [name for name in dir(of) if not name.startswith("_")]


CONFIG_OF_UVICORN = loaded(uvicorn)


@pytest.mark.parametrize("name", public(CONFIG_OF_UVICORN))
def test_every_attribute_of_a_config_is_there_with_the_same_value_or_in_the_guide(name: str) -> None:
    ours, theirs = getattr(loaded(fastserve), name), getattr(CONFIG_OF_UVICORN, name)
    are_methods = callable(ours) and callable(theirs) and not isinstance(theirs, type)
    assert are_methods or ours == theirs or f"`{name}`" in TABLE


def test_every_member_of_a_server_is_there() -> None:
    ours, theirs = fastserve.Server(loaded(fastserve)), uvicorn.Server(CONFIG_OF_UVICORN)
    assert set(public(theirs)) - set(public(ours)) == set()
    assert set(public(theirs.server_state)) - set(public(ours.server_state)) == set()


def test_everything_that_uvicorn_offers_to_programs_is_there() -> None:
    assert {name for name in uvicorn.__all__ if not hasattr(fastserve, name)} == set()


@pytest.mark.parametrize(("argv", "status"), [(["--version"], 0), (["main:app", "--prot", "3"], 2)])
def test_the_command_can_be_called_by_programs_and_ends_them(argv: list[str], status: int) -> None:
    with pytest.raises(SystemExit) as ended:
        fastserve.main(argv)
    assert ended.value.code == status


# Where names lead.


def test_aliases_are_of_options_that_there_are_and_have_no_name_of_one() -> None:
    assert {name for name in ALIASES.values() if name not in NAMES} == set()
    assert [flag for flag in (*ALIASES, *ADVICE) if flag in FLAGS] == []
    assert ALIASES.keys() & ADVICE.keys() == set()
    assert PLURALS.keys() <= NAMES
    assert VALUES.keys() <= NAMES
    assert STANDS_FOR.keys() == STANDS_FOR_BECAUSE.keys()


@pytest.mark.parametrize(
    ("argv", "name", "value"),
    [
        (["-w", "4"], "workers", 4),
        (["-w4"], "workers", 4),
        (["-b", "0.0.0.0:80", "-b", "unix:/a"], "bind", ("0.0.0.0:80", "unix:/a")),
        (["--bind=[::]:80"], "bind", ("[::]:80",)),
        (["--graceful-timeout", "5"], "timeout_graceful_shutdown", 5.0),
        (["--keep-alive", "2"], "timeout_keep_alive", 2.0),
        (["-t", "120"], "timeout_worker", 120.0),
        (["--max-requests=1000"], "limit_max_requests", 1000),
        (["--worker-connections", "10"], "limit_connections", 10),
        (["--workers-lifetime", "60"], "limit_lifetime", 60.0),
        (["--url-path-prefix", "/api"], "root_path", "/api"),
        (["--h11-max-incomplete-event-size", "9000"], "limit_request_head", 9000),
        (["--timeout-worker-healthcheck", "60"], "timeout_worker", 60.0),
    ],
)
def test_names_of_other_servers_are_those_of_ours(argv: list[str], name: str, value: object, serving: Serving) -> None:
    assert serving.option("main:app", *argv, name=name) == value


@pytest.mark.parametrize("flag", ADVICE)
def test_what_is_not_here_is_answered_with_what_to_do(
    flag: str, serving: Serving, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["main:app", flag]) == 2
    assert capsys.readouterr().err == f"fastserve: error: {flag}: {ADVICE[flag]}\n"
    assert serving.settings is None


@pytest.mark.parametrize(
    ("name", "value", "ours"),
    [(name, value, ours) for name, values in STANDS_FOR.items() for value, ours in values.items()],
    ids=" ".join,
)
def test_values_of_other_servers_stand_for_what_is_here(
    name: str, value: str, ours: str, serving: Serving, capsys: pytest.CaptureFixture[str]
) -> None:
    assert serving.option("main:app", f"--{name}", value, name=name) == ours
    assert f"--{name} {value} stands for --{name} {ours}: {STANDS_FOR_BECAUSE[name]}." in capsys.readouterr().err
    given: dict[str, Any] = {name: value}
    assert getattr(Config("main:app", **given), name) == ours


def test_what_is_always_so_is_said_to_be(serving: Serving, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["main:app", "--reset-contextvars"]) == 0
    said = capsys.readouterr().err
    assert "--reset-contextvars is not needed: every request has context variables of its own." in said
