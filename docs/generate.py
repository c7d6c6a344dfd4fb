"""Write the pages that are made from the code: `python docs/generate.py`.

`--check` only tells whether they are current.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fastserve.accessformats import ATOMS, DIRECTIVES, FIELDS, NAMED, UNITS
from fastserve.settings import Option, declared_options, option_groups, option_name

_SETTINGS = Path(__file__).parent / "settings.md"

_INTRODUCTION = """\
<!-- Generated from fastserve/settings.py and fastserve/accessformats.py by docs/generate.py. -->

# Settings

Every option can be given on the command line, in the environment, and in a TOML file. The first of these that has it
decides; otherwise the default holds.

| place | `--timeout-keep-alive 30` is there |
|---|---|
| command line | `fastserve main:app --timeout-keep-alive 30` |
| environment | `FASTSERVE_TIMEOUT_KEEP_ALIVE=30` |
| `pyproject.toml` | `timeout-keep-alive = 30` in the table `[tool.fastserve]` |
| another file, with `--config FILE` | `timeout-keep-alive = 30` at the top |

The application is `APP` on the command line, `FASTSERVE_APP` in the environment and `app` in a file. A switch is `true`
or `false` in the environment and in files. Options that may be given several times are lists in files; in the
environment, each value is on a line of its own. A size in bytes may have a unit, as in `512K`, `64M`, `1.5G` or `2GiB`;
units are powers of 1024.

An unknown option, a bad value, or options that exclude each other are one line on standard error, with the
variable or the file that a value is from, and exit status 2.
"""

_FORMATS = """
## Formats of the access log

`json` is an object on each line: `time`, `client`, `method`, `path` and `query` as received, `http_version`, `status`,
`bytes`, `duration_ms`, `user_agent`, `request_id` (the field X-Request-Id of the response or the request) and `pid`.
The default is uvicorn's, where the path has the root path in front, and a quote is `%22`. A status of 499 stands for a
client that was gone before there was a response, 444 for a connection that the server closed without one.

| name | format |
|---|---|
{named}

| directive | what |
|---|---|
{directives}

`%>s` is `%s`; {units} are durations in these units; `%%` is a percent sign. Quotes, backslashes and what is not
printable ASCII are escaped in what is from the client.

The atoms of gunicorn and granian are known too, as after Python's `%`, so that `%(dt_ms).3f` and `%(status)5d` work:
{atoms}, and `%({{NAME}}i)s`, `%({{NAME}}o)s` and `%(header{{NAME}})s` for fields. There is no `%({{NAME}}e)s`. In them,
`q` is without its `?`, and `p` is the process ID.
"""


def settings_page() -> str:
    """Return the reference of all options."""
    parts = [_INTRODUCTION]
    for _, group in option_groups():
        title, _, about = (group.__doc__ or "").partition(":")
        about = about.strip().split("\n")[0]
        parts.append(f"\n## {title}\n\n{about[:1].upper()}{about[1:]}\n")
        for name, declared in declared_options(group):
            default = group.__dataclass_fields__[name].default
            parts.append(_entry(declared, default))
    return "".join((*parts, _formats()))


def _formats() -> str:
    """Return the reference of what --access-log-format knows."""
    named = "\n".join(f"| `{name}` | `{text}` |" for name, text in NAMED.items())
    single = "\n".join(f"| `%{name}` | {meaning} |" for name, meaning in DIRECTIVES.items())
    fields = "\n".join(f"| `%{{NAME}}{name}` | {meaning} |" for name, meaning in FIELDS.items())
    units = ", ".join(f"`%{{{unit}}}T`" for unit in UNITS)
    atoms = ", ".join(f"`%({name})s`" for name in ATOMS)
    return _FORMATS.format(named=named, directives=f"{single}\n{fields}", units=units, atoms=atoms)


def _entry(declared: Option, default: object) -> str:
    if (isinstance(default, bool) and declared.metavar is None) or declared.off:
        flags = ", ".join(f"`{flag}`" for flag in (declared.flag, declared.off) if flag)
    else:
        flags = f"`{declared.flag} {_placeholder(declared)}`"
    lines = [f"\n### {flags}\n", f"\n{declared.help}\n"]
    facts = []
    if declared.choices:
        facts.append("one of " + ", ".join(f"`{choice}`" for choice in declared.choices))
    if declared.unit:
        facts.append(f"in {declared.unit}")
    if declared.minimum is not None:
        facts.append(f"at least {declared.minimum}")
    facts.append(f"default {_default(default)}")
    facts.append(f"`FASTSERVE_{option_name(declared).upper()}`")
    lines.append("\n" + "; ".join(facts) + ".\n")
    return "".join(lines)


def _placeholder(declared: Option) -> str:
    if declared.choices:
        return "NAME"
    return declared.metavar or {"seconds": "SECONDS", "bytes": "BYTES"}.get(declared.unit or "", "VALUE")


def _default(value: object) -> str:
    if value is True or value is False:
        return "on" if value else "off"
    if value is None or value in ("", ()):
        return "none"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def main() -> int:
    """Write the pages, or compare them."""
    page = settings_page()
    if "--check" not in sys.argv:
        _SETTINGS.write_text(page)
        return 0
    if _SETTINGS.read_text() == page:
        return 0
    sys.stderr.write(f"{_SETTINGS.name} is not what the settings say: run python docs/generate.py\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
