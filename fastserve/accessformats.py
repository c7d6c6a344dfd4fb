"""Formats of the access log, read into the same parts whether they are written as for Apache, gunicorn or granian."""

from __future__ import annotations

import re
from typing import NamedTuple, TypeAlias

from fastserve.errors import SettingsError


class Directive(NamedTuple):
    """What a format puts into a line.

    argument: the name of a field, for `i` and `o`. conversion: how the value becomes text, as after Python's `%`.
    """

    name: str
    argument: str = ""
    conversion: str = "s"


Part: TypeAlias = str | Directive

DIRECTIVES: dict[str, str] = {
    "h": "address of the client",
    "p": "port of the server, or `-`",
    "l": "always `-`",
    "u": "always `-`",
    "t": "time, as in `[10/Oct/2000:13:55:36 -0700]`",
    "r": 'request line; like all that is from the client it has `\\"` for a quote',
    "m": "method",
    "U": "path as received, without `--root-path`",
    "q": "query with its `?`, or nothing",
    "H": "protocol, as in `HTTP/1.1`",
    "s": "status",
    "b": "bytes of the response body, or `-` for none",
    "B": "bytes of the response body",
    "T": "duration in seconds",
    "L": "duration in seconds, with six decimals",
    "D": "duration in microseconds",
    "P": "process ID",
}
"""What follows a `%` in Apache's formats (mod_log_config); `%L` is gunicorn's."""

FIELDS: dict[str, str] = {"i": "field of the request, or `-`", "o": "field of the response, or `-`"}
"""What follows `%{NAME}`."""

UNITS: dict[str, Directive] = {"s": Directive("T"), "ms": Directive("M"), "us": Directive("D")}
"""What `%{UNIT}T` is."""

ATOMS: dict[str, Directive] = {
    # gunicorn
    **{name: Directive(name) for name in "hlutrmUHsbBTLD"},
    "q": Directive("query"),
    "f": Directive("i", "referer"),
    "a": Directive("i", "user-agent"),
    "M": Directive("M"),
    "p": Directive("pid"),
    # granian
    "addr": Directive("h"),
    "time": Directive("time"),
    "dt_ms": Directive("ms"),
    "status": Directive("s"),
    "path": Directive("U"),
    "query_string": Directive("query"),
    "method": Directive("m"),
    "scheme": Directive("scheme"),
    "protocol": Directive("H"),
}
"""What is between the parentheses of `%(NAME)s`, besides fields."""

NAMED: dict[str, str] = {
    "common": '%h %l %u %t "%r" %>s %b',
    "combined": '%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i"',
}
"""Apache's formats that have a name."""

_FLAG = "--access-log-format"
_NUMBERS = ("s", "B", "T", "M", "D", "ms")
_PART = re.compile(
    rf"%(?:>?(?P<simple>[{''.join(DIRECTIVES)}])"
    r"|\{(?P<field>[^}]+)\}(?P<of>[io])"
    rf"|\{{(?P<unit>{'|'.join(UNITS)})\}}T"
    r"|\((?P<atom>[^)]*)\)(?P<conversion>[-+ 0#]*[0-9]*(?:\.[0-9]+)?[sdif])"
    r"|%)"
)
_ATOM_OF_FIELD = re.compile(r"\{(?P<field>[^}]+)\}(?P<of>[io])|header\{(?P<granian>[^}]+)\}")


def parse_access_format(text: str) -> list[Part]:
    """Return the parts of a format, or of one that has a name: literal text and directives.

    Raises:
        SettingsError: it has a directive that is not known, or none.
    """
    text = NAMED.get(text, text)
    parts: list[Part] = []
    at = 0
    for match in _PART.finditer(text):
        parts += [_literal(text[at : match.start()]), _read_part(match)]
        at = match.end()
    parts.append(_literal(text[at:]))
    if not any(isinstance(part, Directive) for part in parts):
        raise SettingsError(f"{text!r} is neither json, {', '.join(NAMED)}, nor a format with a directive", _FLAG)
    return [part for part in parts if part]


def _literal(text: str) -> str:
    if "%" in text:
        raise SettingsError(f"no known directive at {text[text.index('%') :]!r}; a percent sign is %%", _FLAG)
    return text


def _read_part(match: re.Match[str]) -> Part:
    if match["simple"]:
        return Directive(match["simple"])
    if match["field"]:
        return Directive(match["of"], match["field"])
    if match["unit"]:
        return UNITS[match["unit"]]
    return "%" if match["atom"] is None else _read_atom(match["atom"], match["conversion"], match[0])


def _read_atom(atom: str, conversion: str, written: str) -> Directive:
    field = _ATOM_OF_FIELD.fullmatch(atom)
    found = Directive(field["of"] or "i", field["field"] or field["granian"]) if field else ATOMS.get(atom)
    if found is None:
        reason = ": there are no variables of WSGI" if atom.endswith("}e") else ""
        raise SettingsError(f"unknown atom {written!r}{reason}", _FLAG)
    if conversion[-1] != "s" and found.name not in _NUMBERS:
        raise SettingsError(f"{written!r} is for a number, which this is not", _FLAG)
    return found._replace(conversion=conversion)
