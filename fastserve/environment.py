"""Options in the environment: whose variable is taken, and what is said of it."""

from __future__ import annotations

import contextlib
import difflib
import logging
import os
import re
from collections.abc import Collection, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any, NamedTuple

from fastserve.errors import SettingsError
from fastserve.peers import ADVICE, FALLBACKS, variables

_log = logging.getLogger("fastserve")

_PREFIX = "FASTSERVE_"
# Variables that are no options: of the build, of processes for each other, and those that images of containers set.
_OURS = {"PURE", "EXTENSIONS", "INHERITANCE", "WORKER_ID", "APP", "CONFIG", "VERSION", "HELP"}
# Kubernetes describes a service called "fastserve" like this to all containers, see
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_SERVICE = re.compile(r"FASTSERVE_(SERVICE_(HOST|PORT)(_\w+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_\w+)?)")
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://")


def find_variable(name: str, environ: Mapping[str, str]) -> str | None:
    """Return the variable that an option is taken from, None when there is none."""
    for variable in variables(name):
        value = environ.get(variable)
        if value and not (variable == "FASTSERVE_PORT" and _SERVICE_URL.match(value)):
            return variable
    return None


def remarks(names: Collection[str], environ: Mapping[str, str]) -> Iterator[str]:
    """Yield what is to be said of variables that look like options and are none.

    names: of all options.
    """
    known = {variable for name in names for variable in variables(name)} | {_PREFIX + name for name in _OURS}
    if _SERVICE_URL.match(environ.get("FASTSERVE_PORT", "")):
        yield (
            "FASTSERVE_PORT is that of a Kubernetes service called fastserve, and is not used; enableServiceLinks:"
            " false spares it."
        )
    for variable in sorted(environ):
        if variable.startswith(_PREFIX) and variable not in known and not _SERVICE.fullmatch(variable):
            ours = [each.removeprefix(_PREFIX) for each in known if each.startswith(_PREFIX)]
            close = difflib.get_close_matches(variable.removeprefix(_PREFIX), ours, 1)
            hint = f"; did you mean {_PREFIX}{close[0]}?" if close else "."
            yield f"{variable} is no option of fastserve{hint}"


def refuse_variables(environ: Mapping[str, str]) -> None:
    """Look for options of uvicorn that are not here.

    Raises:
        SettingsError: one is switched on.
    """
    for flag, advice in ADVICE.items():
        variable = "UVICORN_" + flag.removeprefix("--").replace("-", "_").upper()
        if environ.get(variable, "").lower() not in ("", "0", "false", "f", "n", "no", "off"):
            raise SettingsError(f"{variable}: {advice}")


@contextlib.contextmanager
def naming_places(places: Mapping[str, str]) -> Iterator[None]:
    """Have errors say where the values of options come from.

    places: by flag, for those that are not from the command line.
    """
    try:
        yield
    except SettingsError as error:
        raise error.with_places(places) from None


class Fallback(NamedTuple):
    """A variable that decides about an option, because nothing else does."""

    flag: str
    variable: str
    text: str

    @property
    def note(self) -> str:
        """What is to be said of it."""
        return f"{self.variable} decides: {self.flag} {self.text}"


def fall_back(values: dict[str, Any], environ: Mapping[str, str]) -> Iterator[Fallback]:
    """Complete options with those that the environment has under common names; yield which.

    Raises:
        SettingsError: one has a bad value.
    """
    for name, variable in FALLBACKS.items():
        text = environ.get(variable)
        if text and values.get(name) is None:
            values[name] = _number(variable, text) if name == "workers" else text
            yield Fallback(f"--{name.replace('_', '-')}", variable, text)


def _number(variable: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise SettingsError(f"{variable}: {text!r} is not a number") from None


def load_env_file(path: str | os.PathLike[str], environ: MutableMapping[str, str]) -> None:
    """Set the variables of a file that are not set yet.

    Raises:
        SettingsError: it cannot be read, or what reads it is not installed.
    """
    try:
        import dotenv
    except ImportError:
        raise SettingsError(
            "it needs python-dotenv; install it with: pip install python-dotenv", "--env-file"
        ) from None
    file = Path(path)
    if not file.is_file():
        raise SettingsError(f"{file}: there is no such file", "--env-file")
    try:
        values = dotenv.dotenv_values(file)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: {error}", "--env-file") from None
    for name, value in values.items():
        if value is not None:
            environ.setdefault(name, value)
    _log.info("Loading environment from '%s'", file)
