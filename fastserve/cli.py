"""The command line. The only module that prints and exits.

Options come from the command line, the environment (`FASTSERVE_*`), a configuration file, and their defaults; the first
of these that has one decides.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
import logging
import os
import sys
import threading
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import click
from click.core import ParameterSource

from fastserve.accel import explain
from fastserve.accel.versions import why_not
from fastserve.environment import (
    fall_back,
    find_variable,
    load_env_file,
    naming_places,
    refuse_variables,
    remarks,
)
from fastserve.errors import SettingsError, StartupError
from fastserve.logs import configure_logging
from fastserve.peers import ADVICE, ALIASES, FULFILLED, STANDS_FOR, STANDS_FOR_BECAUSE, UVICORN_LISTS, aliases
from fastserve.settings import (
    AppSettings,
    Settings,
    declared_options,
    group_title,
    option_groups,
    option_name,
)
from fastserve.streams import flush_streams, open_missing_streams
from fastserve.supervisor.serve import serve
from fastserve.values import Declaration, convert, declarations
from fastserve.version import VERSION
from fastserve.wire.http1.parsers import describe_parser, fields_parser
from fastserve.worker.apploader import load_app
from fastserve.worker.build import build, interpreter, library
from fastserve.worker.loops import loop_name

_log = logging.getLogger("fastserve")

_ROUTES = "routes"  # No application is named so: they are MODULE:ATTRIBUTE.
_TO_LOAD = ("app", "app_dir", "factory", "interface", "env_file")  # what loading an application takes
_DEMO_APP = "fastserve.demo:app"
# How long threads that the application has started may keep the process once everything else has ended.
_THREADS_S = 5.0
_EPILOG = """
APP is MODULE:ATTRIBUTE, for example main:app; "demo" is a small application to try. Every option can also be given in
the environment, as FASTSERVE_PORT for --port, and in pyproject.toml in the table [tool.fastserve], as port. BYTES may
have a unit, as in 512K, 64M or 1.5G; units are powers of 1024. "fastserve routes APP" shows which routes of APP are
accelerated, and why others are not.
"""


def run() -> NoReturn:
    """Run the `fastserve` command, and end the process."""
    open_missing_streams()
    status = main()
    flush_streams()
    timer = threading.Timer(_THREADS_S, _leave_threads_behind, (status,))
    timer.daemon = True
    timer.start()
    sys.exit(status)


def leave(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the `fastserve` command, and leave the program that calls this, as `uvicorn.main` does.

    Raises:
        SystemExit: always, with the status; also in each worker.
    """
    sys.exit(main(argv))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the `fastserve` command and return its exit status."""
    try:
        return _serve(sys.argv[1:] if argv is None else argv)
    except click.ClickException as error:
        return _complain(_explain(error), error.exit_code)
    except SettingsError as error:
        return _complain(str(error), error.exit_code)
    except StartupError as error:
        _log.error("%s", error.explain())
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except SystemExit as leaving:  # of a worker
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)


def _serve(argv: Sequence[str]) -> int:
    if list(argv[:1]) == [_ROUTES]:
        return _run(_routes_command(), argv[1:], f"fastserve {_ROUTES}") or 0
    given = _run(_command(), argv, "fastserve")
    if not isinstance(given, _Given):
        return int(given or 0)  # --help and --version
    with naming_places(given.places):
        return _serve_given(given)


def _serve_given(given: _Given) -> int:
    refuse_variables(os.environ)
    if "env_file" in given.values:
        load_env_file(given.values["env_file"], os.environ)
    for each in fall_back(given.values, os.environ):
        given.notes.append(each.note)
        given.places[each.flag] = each.variable
    settings = Settings.from_options(given.values)
    _refuse_missing("--app-dir", [settings.app.app_dir or ""])
    if settings.reload.reload:
        _refuse_missing("--reload-dir", settings.reload.directories)
    configure_logging(settings.logs)
    for text in given.notes:
        _log.info("%s.", text)
    for text in settings.remarks:
        _log.warning("%s.", text)
    for text in remarks(given.names, os.environ):
        _log.warning("%s", text)
    return serve(settings)


def _run(command: click.Command, argv: Sequence[str], name: str) -> Any:
    """Run a command of click, and return what it does."""
    try:
        return command.main(list(argv), prog_name=name, standalone_mode=False)
    except OSError as error:
        # What is left to be written would fail again at the end of the process.
        with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        raise _CannotPrint(f"cannot write: {error.strerror}") from None


class _CannotPrint(click.ClickException):
    """The output cannot be written. The command exits with 1."""


def _refuse_missing(flag: str, directories: Iterable[str]) -> None:
    # Here as in uvicorn's command; in programs it is a warning, since they may name what is only there sometimes.
    for directory in directories:
        if not Path(directory).is_dir():
            raise SettingsError(f"{directory}: there is no such directory", flag)


def _complain(message: str, status: int) -> int:
    click.echo(f"fastserve: error: {message}", err=True)
    return status


def _explain(error: click.ClickException) -> str:
    """Return what is wrong in one line, with the place where it was said."""
    if isinstance(error, click.NoSuchOption) and error.option_name in ADVICE:
        return f"{error.option_name}: {ADVICE[error.option_name]}"
    param = error.param if isinstance(error, click.BadParameter) else None
    if isinstance(param, _Option) and isinstance(error, click.BadParameter) and error.ctx is not None:
        return f"{_place(param, error.ctx)}: {' '.join(error.message.split())}"
    return " ".join(error.format_message().split())


def _place(param: click.Parameter, ctx: click.Context) -> str:
    """Return where the value of an option comes from."""
    name = param.name or ""
    source = ctx.get_parameter_source(name)
    if source is ParameterSource.ENVIRONMENT:
        return find_variable(name, os.environ) or param.opts[0]
    return f"{ctx.meta[_FILE]}: {param.opts[0]}" if source is ParameterSource.DEFAULT_MAP else param.opts[0]


def _places(ctx: click.Context) -> dict[str, str]:
    """Return where the values of options come from, by flag."""
    return {param.opts[0]: _place(param, ctx) for param in ctx.command.params if isinstance(param, _Option)}


def _leave_threads_behind(status: int) -> None:
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    names = [thread.name for thread in others if not thread.daemon and thread.is_alive()]
    _log.warning("Exiting without waiting for threads that do not end: %s", ", ".join(names))
    os._exit(status)


# The command, made from the declarations in settings.

_FILE = "fastserve.file"  # in click's context: the configuration file
_NOTES = "fastserve.notes"  # and what is to be said of values


class _Command(click.Command):
    """A command whose help shows the options under the headings of their groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        headings: dict[str, list[tuple[str, str]]] = {"General": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                headings.setdefault(getattr(param, "heading", "General"), []).append(record)
        for heading, records in headings.items():
            with formatter.section(heading):
                formatter.write_dl(records)


class _Option(click.Option):
    """An option that can also be given by the names that other servers have for it."""

    heading: str

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        super().add_to_parser(parser, ctx)
        others = aliases(self.name or "")
        if others:
            parser.add_option(obj=self, opts=others, dest=self.name, action="append" if self.multiple else "store")

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        variable = find_variable(self.name or "", os.environ)
        return os.environ[variable] if variable is not None else None

    def value_from_envvar(self, ctx: click.Context) -> Any:
        variable = find_variable(self.name or "", os.environ)
        if self.multiple and variable is not None and variable.startswith("UVICORN_"):
            return os.environ[variable].split(UVICORN_LISTS.get(self.name or ""))
        return super().value_from_envvar(ctx)


class _Value(click.ParamType):  # type: ignore[type-arg]
    """What converts the text or the value of a file. The environment can hold several values, one on each line."""

    envvar_list_splitter = "\n"

    def __init__(self, declared: Declaration) -> None:
        self.name = _metavar(declared)
        self._declared = declared

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See ParamType."""
        try:
            converted = convert(self._declared, value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        name = option_name(self._declared.option)
        if ctx is not None and isinstance(value, str) and value in STANDS_FOR.get(name, {}):
            flag, reason = self._declared.option.flag, STANDS_FOR_BECAUSE[name]
            note = f"{flag} {value} stands for {flag} {converted}: {reason}"
            ctx.meta.setdefault(_NOTES, []).append(note)
        return converted


class _Switch(_Value, click.types.BoolParamType):
    """A value that click takes for a switch."""


def _params() -> list[click.Parameter]:
    """Return the argument and all options of fastserve."""
    envvar = ["FASTSERVE_APP", "UVICORN_APP"]
    params: list[click.Parameter] = [click.Argument(["app"], required=False, envvar=envvar)]
    known = declarations()
    for _, group in option_groups():
        for name, declared in declared_options(group):
            param = _click_option(known[option_name(declared)], group.__dataclass_fields__[name].default)
            param.heading = group_title(group)
            params.append(param)
    return params


def _file_option() -> click.Option:
    return click.Option(
        ["--config"],
        metavar="FILE",
        is_eager=True,
        expose_value=False,
        callback=_read_file,
        help="Read options from this TOML file. The default is [tool.fastserve] in pyproject.toml.",
    )


def _command() -> click.Command:
    """Return the command that serves an application. It returns the options that were given, by name."""
    params = [
        *_params(),
        *(click.Option([flag], is_flag=True, hidden=True, allow_from_autoenv=False) for flag in FULFILLED),
        _file_option(),
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_show_version,
            allow_from_autoenv=False,
            help="Show the version, and what it runs on.",
        ),
        click.Option(
            ["--help", "-h"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_show_help,
            allow_from_autoenv=False,
            help="Show this message and exit.",
        ),
    ]
    return _Command(
        "fastserve",
        params=params,
        callback=_given_options,
        help="Serve the ASGI application APP.",
        epilog=_EPILOG,
        add_help_option=False,  # It is above, since that of click can be in the environment before 8.4.
        context_settings={"auto_envvar_prefix": "FASTSERVE", "max_content_width": 100},
    )


def _routes_command() -> click.Command:
    """Return the command that shows the routes of an application, as they are before it has started."""
    params = [*(param for param in _params() if param.name in _TO_LOAD), _file_option()]
    return click.Command(
        _ROUTES,
        params=params,
        callback=_show_routes,
        help="Show the routes of APP.",
        context_settings={"auto_envvar_prefix": "FASTSERVE", "help_option_names": ["--help", "-h"]},
    )


def _show_routes(app: str | None, env_file: str | None, **options: Any) -> None:
    with naming_places(_places(click.get_current_context())):
        settings = AppSettings(app=_application(app, f"fastserve {_ROUTES}"), **options)
        _refuse_missing("--app-dir", [settings.app_dir or ""])
        if env_file is not None:
            load_env_file(env_file, os.environ)
    found = load_app(settings)
    reports = explain(found)
    if not reports:
        click.echo(f"nothing to accelerate: {why_not(found) or 'the application has no routes'}")
        return
    for report in reports:
        what = " ".join((",".join(report.methods), report.path)).strip()
        click.echo(f"{what}: {'accelerated' if report.accelerated else report.reason}")
    click.echo(f"accelerated {sum(report.accelerated for report in reports)} of {len(reports)} routes")


def _click_option(declared: Declaration, default: Any) -> _Option:
    option = declared.option
    is_switch = bool in declared.kinds and option.metavar is None
    return _Option(
        [f"{option.flag}/{option.off}" if option.off else option.flag, option_name(option)],
        type=_Switch(declared) if is_switch else _Value(declared),
        default=default,
        is_flag=is_switch,
        multiple=declared.is_multiple,
        help=option.help,
        metavar=None if is_switch else _metavar(declared),
        show_default=default not in (None, "", ()),
    )


def _metavar(declared: Declaration) -> str:
    """Return how help names the value."""
    option = declared.option
    if option.choices:
        return f"[{'|'.join(option.choices)}]"
    if option.metavar or option.unit:
        return option.metavar or (option.unit or "").upper()
    names = {int: "INTEGER", float: "FLOAT", bool: "BOOLEAN"}
    return next((names[kind] for kind in declared.kinds if kind in names), "TEXT")


@dataclass(slots=True)
class _Given:
    """What the command was given.

    names: of all options. places: where their values come from, by flag. notes: what is to be said of that.
    """

    values: dict[str, Any]
    names: list[str]
    places: dict[str, str]
    notes: list[str] = field(default_factory=list)


def _given_options(app: str | None, **values: Any) -> _Given:
    ctx = click.get_current_context()
    named = _application(app, "fastserve")
    notes = [f"{flag} is not needed: {text}" for flag, text in FULFILLED.items() if values.pop(_name(flag))]
    given = {name: value for name, value in values.items() if not _is_default(ctx, name)}
    notes += ctx.meta.get(_NOTES, [])
    for name in given:
        if ctx.get_parameter_source(name) is ParameterSource.ENVIRONMENT:
            variable = find_variable(name, os.environ) or ""
            if variable.startswith("UVICORN_"):
                notes.append(f"{variable} is used as FASTSERVE_{name.upper()}")
    return _Given({**given, "app": named}, list(values), _places(ctx), notes)


def _name(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")


def _is_default(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is ParameterSource.DEFAULT


def _application(app: str | None, command: str) -> str:
    """Return what names the application."""
    if app is None:
        raise click.UsageError(f"no application is named; for example: {command} main:app")
    if app != "demo":
        return app
    if importlib.util.find_spec("fastapi") is None:
        raise StartupError("the demonstration needs FastAPI; install it with: pip install 'fastserve[demo]'")
    return _DEMO_APP


def _read_file(ctx: click.Context, param: click.Parameter, path: str | None) -> None:
    """Take the values of the configuration file as defaults."""
    file = Path(path or "pyproject.toml")
    if path is None and not file.exists():
        return
    where = str(file) if path is None else f"{_place(param, ctx)}: {file}"
    if file.suffix == ".py":
        raise click.UsageError(f"{where}: {ADVICE['-c']}")
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise click.UsageError(f"{where}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{where}: {error}") from None
    known = declarations()
    values = {}
    for key, value in _table(file, content).items():
        name = key.replace("-", "_")
        if name == "app":
            if not isinstance(value, str):
                raise click.UsageError(f"{file}: {key}: {value!r} is not text")
        elif name not in known:
            raise click.UsageError(f"{file}: {_what_instead(key)}")
        is_one = name in known and known[name].is_multiple and not isinstance(value, list)
        values[name] = [value] if is_one else value
    ctx.meta[_FILE] = str(file)
    ctx.default_map = values


def _what_instead(key: str) -> str:
    """Return what to say of a key that is no option."""
    flag = f"--{key.replace('_', '-')}"
    if flag in ADVICE:
        return f"{key}: {ADVICE[flag]}"
    meant = {name: name for name in (*declarations(), "app")} | {_name(alias): name for alias, name in ALIASES.items()}
    close = difflib.get_close_matches(_name(flag), meant, 1)
    hint = f"; did you mean {meant[close[0]].replace('_', '-')!r}?" if close else ""
    return f"unknown option {key!r}{hint}"


def _table(file: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Return the table of the file that the options are in."""
    table: Any = content
    for key in ("tool", "fastserve") if file.name == "pyproject.toml" else ():
        table = table.get(key, {})
        if not isinstance(table, dict):
            raise click.UsageError(f"{file}: {key!r} is not a table")
    return dict(table)


def _show_help(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(ctx.get_help())
        ctx.exit()


def _show_version(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if wanted:
        parts = (interpreter(), library(loop_name("auto")), _describe_parser(), build())
        click.echo(f"fastserve {VERSION} ({', '.join(parts)})")
        ctx.exit()


def _describe_parser() -> str:
    name = fields_parser("auto").name
    return describe_parser("auto").replace(name, library(name))
