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
    ProxySettings,
    Recycling,
    RequestLimits,
    Settings,
    StatusSettings,
    Timeouts,
    declared_options,
    group_title,
    option_groups,
    option_name,
    parse_cpus,
    parse_size,
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


WITHOUT_EFFECT: dict[str, dict[str, Any]] = {
    "--timeout-worker, --timeout-worker-boot and --balance have no effect in one process without a supervisor": {
        "timeout_worker": 5.0,
        "timeout_worker_boot": 5.0,
        "balance": "cpu",
    },
    "--timeout-worker-boot has no effect in one process without a supervisor": {"timeout_worker_boot": 2.0},
    "--host and --port have no effect when another address is named": {"uds": "/a", "host": "::", "port": 1},
    "--reload-dir and --reload-delay have no effect without --reload": {"reload_dir": ("a",), "reload_delay": 1.0},
    "--limit-max-requests-jitter has no effect without --limit-max-requests": {"limit_max_requests_jitter": 1},
    "--ws-max-size and --limit-websockets have no effect with --ws none": {
        "ws": "none",
        "ws_max_size": 1,
        "limit_websockets": 1,
    },
    "--proxy-allow-ips has no effect without --proxy-protocol on": {"proxy_allow_ips": "*"},
    "--access-log-format has no effect with --no-access-log": {"access_log": False, "access_log_format": "json"},
}


@pytest.mark.parametrize(("text", "options"), WITHOUT_EFFECT.items(), ids=range(len(WITHOUT_EFFECT)))
def test_options_that_have_no_effect_because_of_others_are_told(text: str, options: dict[str, Any]) -> None:
    assert Settings.from_options(options).remarks == [text]


NEEDED = {"workers": 2, "reload": True, "limit_max_requests": 5, "ws": "auto", "proxy_protocol": "on"}


def test_options_that_have_an_effect_are_not() -> None:
    options = {name: value for each in WITHOUT_EFFECT.values() for name, value in each.items()}
    del options["uds"], options["access_log"]
    assert Settings.from_options({**options, **NEEDED}).remarks == []
    assert Settings().remarks == []


def test_what_is_promised_by_default() -> None:
    settings = Settings()
    assert settings.bind.addresses == [TcpAddress("127.0.0.1", 8000)]
    assert settings.processes == ProcessSettings(
        workers=1, loop="auto", balance="random", affinity="auto", preload=False, hooks=None, pid=None
    )
    assert settings.timeouts == Timeouts(
        head_s=30, keep_alive_s=75, body_s=60, write_s=60, graceful_s=None, drain_delay_s=0, silent_s=30, boot_s=600
    )
    assert settings.timeouts.stop_s == 30
    assert settings.requests == RequestLimits(
        line_bytes=16384, head_bytes=65536, fields=128, trailer_bytes=16384, body_bytes=0
    )
    assert settings.connections == ConnectionLimits(
        concurrency=None, connections=None, age_s=None, unread_bytes=65536, unsent_bytes=65536
    )
    assert settings.recycling == Recycling(max_requests=None, max_requests_jitter=0, memory_bytes=None, lifetime_s=None)
    assert settings.status == StatusSettings(ready_path=None, status_path=None)
    assert (settings.http.server_header, settings.http.date_header, settings.http.fields) == (True, True, [])
    assert settings.proxies == ProxySettings(
        headers=True, trusted="127.0.0.1,::1", fields="for,proto", protocol="off", protocol_trusted="127.0.0.1,::1"
    )
    assert settings.logs == LogSettings(log_level=None, access_log=True, use_colors=None, log_config=None)
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
        assert str(raised.value) == f"{declared.flag}: {lower} is less than {bound}"


TIMES = [case for case in DECLARED if case[2].unit == "seconds"]


@pytest.mark.parametrize(("group", "name", "declared"), TIMES, ids=flags(TIMES))
def test_a_time_that_is_no_number_is_refused(group: Any, name: str, declared: Option) -> None:
    with pytest.raises(SettingsError, match=declared.flag):
        group(**{name: math.nan})


@pytest.mark.parametrize(("group", "name", "declared"), CHOSEN, ids=flags(CHOSEN))
def test_a_value_is_one_of_its_choices(group: Any, name: str, declared: Option) -> None:
    for choice in declared.choices:
        assert getattr(group(**{name: choice}), name) == choice
    for other in {"", "nothing", declared.choices[0].upper()} - set(declared.choices):
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


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("0", [0]),
        ("0,2,4-7", [0, 2, 4, 5, 6, 7]),
        ("3-3", [3]),
        (" 1,0\n", [1, 0]),
        ("", []),
        ("a", []),
        ("1,", []),
        (",1", []),
        ("1-", []),
        ("-1", []),
        ("1 2", []),
        ("1-2-3", []),
        ("\u0661", []),
    ],
)
def test_a_list_of_cpus_is_as_linux_writes_it(text: str, cpus: list[int]) -> None:
    assert parse_cpus(text) == cpus


@pytest.mark.parametrize("affinity", ["auto", "off", "0", "0,2,4-7"])
def test_the_affinity_is_a_word_or_a_list_of_cpus(affinity: str) -> None:
    assert ProcessSettings(affinity=affinity).affinity == affinity


@pytest.mark.parametrize("affinity", ["", "on", "AUTO", "0,", "0-x", "7-4"])
def test_an_affinity_that_is_neither_is_refused(affinity: str) -> None:
    with pytest.raises(SettingsError) as raised:
        ProcessSettings(affinity=affinity)
    assert str(raised.value) == f"--affinity: {affinity!r} is not auto, off or a list such as 0,2,4-7"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("65536", 65536),
        ("-1", -1),
        ("64K", 65536),
        ("64k", 65536),
        ("64KB", 65536),
        ("64kib", 65536),
        ("64 KiB", 65536),
        ("512M", 512 * 1024**2),
        ("512mb", 512 * 1024**2),
        ("512MiB", 512 * 1024**2),
        ("2G", 2 * 1024**3),
        ("2GB", 2 * 1024**3),
        ("2GIB", 2 * 1024**3),
        ("1.5G", 1536 * 1024**2),
        ("0.5K", 512),
        ("0.1K", 102),
        (" 1K ", 1024),
        ("1099511627776G", 1024**7),
    ],
)
def test_a_size_is_a_number_of_bytes_or_has_a_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "K",
        ".5K",
        "1.K",
        "1.5",
        "1e3",
        "-1K",
        "1T",
        "1B",
        "1KK",
        "1iB",
        "1Ki B",
        "1,5G",
        "1K 2K",
        "1\u212a",
        "9" * 5000,
    ],
)
def test_what_is_no_size_is_none(text: str) -> None:
    assert parse_size(text) is None


PROXIES = [
    ({"trusted": "nginx"}, "--forwarded-allow-ips: 'nginx' is not an address, a network, 'unix' or '*'"),
    (
        {"protocol_trusted": "10.0.0.1/8"},
        "--proxy-allow-ips: '10.0.0.1/8' has host bits set; the network is 10.0.0.0/8",
    ),
    ({"fields": "for,by"}, "--forwarded-fields: 'by' is not one of for, proto, host, port, prefix, forwarded"),
    ({"fields": "forwarded,for"}, "--forwarded-fields: forwarded excludes all others but prefix"),
]


@pytest.mark.parametrize(("values", "message"), PROXIES, ids=[next(iter(values.values())) for values, _ in PROXIES])
def test_what_is_no_proxy_or_no_field_is_refused(values: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError) as raised:
        ProxySettings(**values)  # type: ignore[arg-type]
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("fields", "names"),
    [("", set()), (" FOR , proto,", {"for", "proto"}), ("forwarded,prefix", {"forwarded", "prefix"})],
    ids=["none", "blanks and capitals", "RFC 7239"],
)
def test_the_fields_that_are_believed_are_a_list(fields: str, names: set[str]) -> None:
    assert ProxySettings(fields=fields).field_names == names


@pytest.mark.parametrize(("flag", "name"), [("--ready-path", "ready_path"), ("--status-path", "status_path")])
def test_a_path_that_is_answered_begins_with_a_slash(flag: str, name: str) -> None:
    settings = StatusSettings(**{name: "/x"})
    assert (getattr(settings, name), settings.is_wanted, StatusSettings().is_wanted) == ("/x", True, False)
    for path in ("", "x", "http://example.org/x"):
        with pytest.raises(SettingsError) as raised:
            StatusSettings(**{name: path})
        assert str(raised.value) == f"{flag}: {path!r} does not begin with a slash"


@pytest.mark.parametrize(
    "values",
    [
        {"workers": 2},
        {"workers": "auto"},
        {"preload": True},
        {"hooks": "mine"},
        {"limit_max_requests": 1},
        {"limit_memory": 2**20},
        {"limit_lifetime": 1.0},
    ],
    ids=lambda values: next(iter(values)),
)
def test_some_options_need_a_supervisor(values: dict[str, Any]) -> None:
    assert Settings.from_options(values).needs_supervisor


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"limit_max_requests_jitter": 5},
        {"pid": "a.pid"},
        {"ready_path": "/ready", "status_path": "/status"},
        {"drain_delay": 5.0},
        {"affinity": "0"},
    ],
    ids=lambda values: next(iter(values), "none"),
)
def test_other_options_of_one_worker_need_none(values: dict[str, Any]) -> None:
    assert not Settings.from_options(values).needs_supervisor


def test_addresses_are_those_of_bind_or_else_of_host_and_port() -> None:
    assert BindSettings(host="::1", port=80).addresses == [TcpAddress("::1", 80)]
    assert BindSettings(bind=("unix:/a", "fd://3", "[::]:80")).addresses == [
        UnixAddress("/a"),
        InheritedAddress(3),
        TcpAddress("::", 80),
    ]


@pytest.mark.parametrize("other", [{"host": "0.0.0.0"}, {"port": 9000}, {"host": "::", "port": 1}])
def test_bind_excludes_host_and_port(other: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"^--bind( and --host)?( and --port)? exclude each other$"):
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
