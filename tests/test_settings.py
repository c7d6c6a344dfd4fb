"""Options: what is declared, what is checked, and how values become settings."""

from __future__ import annotations

import dataclasses
import math
import typing
from typing import Any

import pytest

from fastserve.addresses import InheritedAddress, TcpAddress, UnixAddress
from fastserve.errors import SettingsError
from fastserve.settings import (
    AppSettings,
    BindSettings,
    ConnectionLimits,
    Group,
    HttpSettings,
    LogSettings,
    Option,
    ProcessSettings,
    RequestLimits,
    Settings,
    Timeouts,
    declared_options,
    group_title,
    option_groups,
    option_name,
)

GROUPS = dict(option_groups())
DECLARED = [(group, name, declared) for group in GROUPS.values() for name, declared in declared_options(group)]
BOUNDED = [case for case in DECLARED if case[2].minimum is not None]
CHOSEN = [case for case in DECLARED if case[2].choices]


def flags(cases: list[tuple[type[Any], str, Option]]) -> list[str]:
    return [declared.flag for _, _, declared in cases]


# What is declared.


def test_the_groups_are_those_of_the_settings() -> None:
    settings = Settings()
    assert {name: type(getattr(settings, name)) for name in GROUPS} == GROUPS
    assert [each.name for each in dataclasses.fields(Settings)] == list(GROUPS)
    assert all(issubclass(group, Group) for group in GROUPS.values())


def test_every_field_but_the_application_is_an_option() -> None:
    fields = {(group, each.name) for group in GROUPS.values() for each in dataclasses.fields(group)}
    assert fields - {(group, name) for group, name, _ in DECLARED} == {(AppSettings, "app")}


def test_no_two_options_have_the_same_flag() -> None:
    used = flags(DECLARED) + [declared.off for _, _, declared in DECLARED if declared.off]
    assert len(used) == len(set(used))


@pytest.mark.parametrize(("group", "name", "declared"), DECLARED, ids=flags(DECLARED))
def test_an_option_has_a_flag_help_and_a_default_that_is_allowed(group: Any, name: str, declared: Option) -> None:
    assert declared.flag.startswith("--")
    assert declared.flag == declared.flag.lower()
    assert declared.help.endswith(".")
    assert name in {each.name for each in dataclasses.fields(group())}
    assert declared.off in (None, f"--no-{declared.flag.removeprefix('--')}")


def test_groups_and_settings_cannot_be_changed() -> None:
    settings = Settings()
    for changed, name in ((settings, "app"), (settings.timeouts, "head_s")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(changed, name, None)


def test_what_is_promised_by_default() -> None:
    settings = Settings()
    assert settings.bind.addresses == [TcpAddress("127.0.0.1", 8000)]
    assert settings.processes == ProcessSettings(workers=1, loop="auto")
    assert settings.timeouts == Timeouts(head_s=30, keep_alive_s=75, body_s=60, write_s=60, graceful_s=30)
    assert settings.requests == RequestLimits(
        line_bytes=16384, head_bytes=65536, fields=128, trailer_bytes=16384, body_bytes=0
    )
    assert settings.connections == ConnectionLimits(
        concurrency=None, connections=None, unread_bytes=65536, unsent_bytes=65536
    )
    assert (settings.http.server_header, settings.http.date_header, settings.http.fields) == (True, True, [])
    assert settings.logs == LogSettings(log_level="info", access_log=True, use_colors=None, log_config=None)
    assert settings.app == AppSettings(app=None, factory=False, app_dir="", lifespan="auto", root_path="")


def test_names_and_titles_are_made_from_flags_and_docstrings() -> None:
    assert option_name(Option("--limit-request-line", "")) == "limit_request_line"
    assert option_name(Option("--port", "")) == "port"
    titles = [group_title(group) for group in GROUPS.values()]
    assert titles[:3] == ["Application", "Sockets", "Processes"]
    assert len(set(titles)) == len(titles)
    assert group_title(type("Undocumented", (), {})) == ""


# What is checked.


@pytest.mark.parametrize(("group", "name", "declared"), BOUNDED, ids=flags(BOUNDED))
def test_a_value_may_be_as_low_as_its_bound_and_no_lower(group: Any, name: str, declared: Option) -> None:
    bound: Any = declared.minimum
    assert getattr(group(**{name: bound}), name) == bound
    for lower in (bound - 1, math.nextafter(bound, -math.inf), -math.inf):
        with pytest.raises(SettingsError) as raised:
            group(**{name: lower})
        assert str(raised.value).startswith(f"{declared.flag}: {lower} is less than ")


TIMES = [case for case in DECLARED if case[0] is Timeouts]


@pytest.mark.parametrize(("group", "name", "declared"), TIMES, ids=flags(TIMES))
def test_a_time_that_is_no_number_is_refused(group: Any, name: str, declared: Option) -> None:
    with pytest.raises(SettingsError, match=declared.flag):
        group(**{name: math.nan})


@pytest.mark.parametrize(("group", "name", "declared"), CHOSEN, ids=flags(CHOSEN))
def test_a_value_is_one_of_its_choices(group: Any, name: str, declared: Option) -> None:
    for choice in declared.choices:
        assert getattr(group(**{name: choice}), name) == choice
    for other in ("", "nothing", declared.choices[0].upper()):
        with pytest.raises(SettingsError) as raised:
            group(**{name: other})
        assert str(raised.value) == f"{declared.flag}: {other!r} is not one of {', '.join(declared.choices)}"


@pytest.mark.parametrize(("group", "name", "declared"), DECLARED, ids=flags(DECLARED))
def test_none_is_allowed_where_it_is_the_default(group: Any, name: str, declared: Option) -> None:
    if type(None) in typing.get_args(typing.get_type_hints(group)[name]):
        assert getattr(group(**{name: None}), name) is None


@pytest.mark.parametrize(("port", "is_allowed"), [(0, True), (65535, True), (65536, False), (-1, False)])
def test_a_port_is_in_its_range(port: int, is_allowed: bool) -> None:
    if is_allowed:
        assert BindSettings(port=port).addresses == [TcpAddress("127.0.0.1", port)]
    else:
        with pytest.raises(SettingsError, match=r"^--port: "):
            BindSettings(port=port)


def test_workers_may_be_as_many_as_fit() -> None:
    assert ProcessSettings(workers="auto").workers == "auto"


def test_addresses_are_those_of_bind_or_else_of_host_and_port() -> None:
    assert BindSettings(host="::1", port=80).addresses == [TcpAddress("::1", 80)]
    assert BindSettings(bind=("unix:/a", "fd://3", "[::]:80")).addresses == [
        UnixAddress("/a"),
        InheritedAddress(3),
        TcpAddress("::", 80),
    ]


@pytest.mark.parametrize("other", [{"host": "0.0.0.0"}, {"port": 9000}, {"host": "::", "port": 1}])
def test_bind_excludes_host_and_port(other: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"^--bind and --host or --port exclude each other$"):
        BindSettings(bind=("unix:/a",), **other)


def test_an_address_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(SettingsError, match=r"^--bind: 'x' is not "):
        BindSettings(bind=("unix:/a", "x"))


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("X-A:b", (b"X-A", b"b")),
        ("X-A: b c ", (b"X-A", b"b c")),
        ("X-A:\t b\t", (b"X-A", b"b")),
        ("X-A:", (b"X-A", b"")),
        ("X-A: b:c", (b"X-A", b"b:c")),
        ("X-A: ö", (b"X-A", b"\xf6")),
        ("!#$%&'*+-.^_`|~0Az: x", (b"!#$%&'*+-.^_`|~0Az", b"x")),
    ],
)
def test_a_header_is_a_name_and_a_value(line: str, field: tuple[bytes, bytes]) -> None:
    assert HttpSettings(header=(line,)).fields == [field]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "X-A",
        ": x",
        " X-A: x",
        "X A: x",
        "X-A : x",
        "X-Ä: x",
        "X-A: x\r\nX-B: y",
        "X-A: x\n",
        "X-A: \x00",
        "X-A: €",
        "X-A: \x7f",
    ],
)
def test_what_is_no_header_is_refused(line: str) -> None:
    with pytest.raises(SettingsError) as raised:
        HttpSettings(header=(line,))
    assert str(raised.value) == f"--header: {line!r} is not NAME:VALUE"


@pytest.mark.parametrize("name", ["Content-Length", "TRANSFER-ENCODING", "connection"])
def test_a_header_that_frames_the_response_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=f"^--header: {name} is the server's to set$"):
        HttpSettings(header=(f"{name}: x",))


# From values by name.


def test_values_find_their_groups_and_the_rest_is_default() -> None:
    settings = Settings.from_options(
        {"app": "main:app", "port": 9000, "workers": "auto", "timeout_keep_alive": 5.0, "header": ("a: b",)}
    )
    assert settings == Settings(
        app=AppSettings(app="main:app"),
        bind=BindSettings(port=9000),
        processes=ProcessSettings(workers="auto"),
        timeouts=Timeouts(keep_alive_s=5.0),
        http=HttpSettings(header=("a: b",)),
    )


def test_without_values_all_is_default() -> None:
    assert Settings.from_options({}) == Settings()


@pytest.mark.parametrize("name", ["prot", "--port", "head_s", "timeout-keep-alive", "bind_", ""])
def test_a_name_that_is_no_option_is_refused(name: str) -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.from_options({"app": "main:app", name: 1})
    assert str(raised.value) == f"unknown option {name!r}"


def test_values_that_are_out_of_bounds_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"^--backlog: 0 is less than 1$"):
        Settings.from_options({"backlog": 0})
    assert SettingsError.exit_code == 2
