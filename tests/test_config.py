"""`fastserve.Config`: what programs give to it and read from it, as they know it of uvicorn."""

from __future__ import annotations

import logging
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import uvicorn.logging

import fastserve
from fastserve import Config
from fastserve.config import LOGGING_CONFIG, as_option
from fastserve.errors import AppLoadError, SettingsError
from fastserve.settings import Settings
from tests.certificates import write_pair

pytestmark = pytest.mark.usefixtures("own_logging")


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Serve nothing."""


def make(**options: Any) -> Config:
    """Return a configuration that leaves logging as it is."""
    return Config("main:app", **{"log_config": None, **options})


def test_without_options_it_is_what_the_command_has() -> None:
    assert make(app_dir="").settings == Settings.from_options({"app": "main:app"})


@pytest.mark.parametrize(
    ("options", "meant"),
    [
        ({"host": "::1", "port": 1}, {"host": "::1", "port": 1}),
        ({"uds": "/run/app.sock"}, {"uds": "/run/app.sock"}),
        ({"headers": [("a", "b"), ("c", "d")]}, {"header": ("a: b", "c: d")}),
        ({"headers": [(b"a", b"b")]}, {"header": ("a: b",)}),
        ({"headers": ["a: b"]}, {"header": ("a: b",)}),
        ({"workers": 2, "factory": True}, {"workers": 2, "factory": True}),
        ({"reload": True, "reload_dirs": "src"}, {"reload": True, "reload_dir": ("src",)}),
        ({"reload_includes": ["*.html", "*.css"]}, {"reload_include": ("*.html", "*.css")}),
        ({"reload_dirs": [Path("src")]}, {"reload_dir": ("src",)}),
        ({"log_level": "DEBUG"}, {"log_level": "debug"}),
        ({"log_level": logging.WARNING}, {"log_level": "warning"}),
        ({"timeout_keep_alive": 5, "timeout_graceful_shutdown": None}, {"timeout_keep_alive": 5}),
        ({"h11_max_incomplete_event_size": 9000}, {"limit_request_head": 9000}),
        ({"forwarded_allow_ips": ["10.0.0.1", "10.0.0.2"]}, {"forwarded_allow_ips": "10.0.0.1,10.0.0.2"}),
        ({"reset_contextvars": True, "http2": False, "workers": None}, {}),
        ({"ws_ping_interval": None, "ws_ping_timeout": None}, {"ws_ping_interval": 0.0, "ws_ping_timeout": 0.0}),
        ({"ssl_ciphers": "TLSv1", "ssl_version": 17, "ssl_cert_reqs": 0}, {}),
        ({"access_log": False, "limit_memory": 2**30}, {"access_log": False, "limit_memory": 2**30}),
        ({"port": "8123", "workers": "2", "fd": "3"}, {"port": 8123, "workers": 2, "fd": 3}),
        ({"workers": "auto", "limit_memory": "1.5G"}, {"workers": "auto", "limit_memory": 3 * 2**29}),
        ({"timeout_keep_alive": "7.5", "backlog": " 64 "}, {"timeout_keep_alive": 7.5, "backlog": 64}),
        ({"reload": "yes", "access_log": "0", "factory": 1}, {"reload": True, "access_log": False, "factory": True}),
        ({"reload": "", "use_colors": "False"}, {"reload": False, "use_colors": False}),
        ({"ssl_version": ssl.PROTOCOL_TLS_SERVER, "log_level": "Info"}, {"log_level": "info"}),
        (
            {"ssl_keyfile_password": b"secret", "ssl_certfile": "a"},
            {"ssl_keyfile_password": b"secret", "ssl_certfile": "a"},
        ),
        ({"root_path": Path("/api"), "ssl_keyfile_password": 7}, {"root_path": "/api", "ssl_keyfile_password": "7"}),
    ],
)
def test_options_are_taken_in_the_forms_that_uvicorn_allows(options: dict[str, Any], meant: dict[str, Any]) -> None:
    assert make(app_dir="", **options).settings == Settings.from_options({"app": "main:app", **meant})


def test_host_and_port_may_be_given_by_position() -> None:
    config = Config("main:app", "0.0.0.0", 80, log_config=None)
    assert (config.host, config.port) == ("0.0.0.0", 80)


@pytest.mark.parametrize(
    ("keyword", "hint"),
    [
        ("prot", "; did you mean 'port'?"),
        ("reload_dir_", "; did you mean 'reload_dir'?"),
        ("xyzzy", ""),
    ],
)
def test_an_unknown_keyword_is_an_error_that_names_the_right_one(keyword: str, hint: str) -> None:
    with pytest.raises(TypeError) as raised:
        make(**{keyword: 1})
    assert str(raised.value) == f"Config has no keyword {keyword!r}{hint}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"port": 65536}, "--port: 65536 is more than 65535"),
        ({"http2": True}, "http2: HTTP/2 is not served"),
        (
            {"ws": "no.such:Class"},
            "--ws: 'no.such:Class' is not one of auto, none; fastserve implements WebSocket itself",
        ),
        ({"http": socket.socket}, "--http: socket cannot be plugged in; fastserve reads requests "),
        ({"loop": "trio"}, "--loop: 'trio' is not"),
        ({"workers": 0}, "--workers: 0 is less than 1"),
        ({"port": "x"}, "--port: 'x' is not a whole number"),
        ({"port": 8000.5}, "--port: 8000.5 is not a whole number"),
        ({"port": True}, "--port: True is not a whole number"),
        ({"port": "65536"}, "--port: 65536 is more than 65535"),
        ({"workers": "x"}, "--workers: 'x' is neither a number nor 'auto'"),
        ({"workers": False}, "--workers: False is neither a number nor 'auto'"),
        ({"limit_memory": "12Q"}, "--limit-memory: '12Q' is not a size such as 65536, 512K or 1.5G"),
        ({"limit_memory": 2.5}, "--limit-memory: 2.5 is not a size such as 65536, 512K or 1.5G"),
        ({"timeout_keep_alive": "soon"}, "--timeout-keep-alive: 'soon' is not a number"),
        ({"timeout_keep_alive": 10**400}, "--timeout-keep-alive: 1000"),
        ({"h11_max_incomplete_event_size": "x"}, "--limit-request-head: 'x' is not a size such as "),
        ({"reload": "maybe"}, "--reload: 'maybe' is not one of true, t, yes, y, on, 1, false, f, no, n, off, 0"),
        ({"reload": 2}, "--reload: 2 is not one of true, "),
        ({"host": True}, "--host: True is not text"),
        ({"root_path": object}, "--root-path: object cannot be plugged in"),
        ({"log_level": "loud"}, "--log-level: 'loud' is not one of critical, error, warning, info, debug, trace"),
        ({"headers": ["x"]}, "--header: 'x' is not NAME:VALUE"),
        ({"headers": [("a", "b", "c")]}, r"--header: \('a', 'b', 'c'\) is not a name and a value"),
        ({"headers": 1}, "--header: '1' is not NAME:VALUE"),
        ({"reload_dirs": [b"src"]}, "--reload-dir: b'src' is not text"),
        ({"timeout_notify": "often"}, "timeout_notify: 'often' is not a number"),
    ],
)
def test_what_is_wrong_is_said_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=f"^{message}"):
        make(**options)


def test_a_bad_variable_is_named_that_decides_because_nothing_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "foo")
    with pytest.raises(SettingsError, match=r"^FORWARDED_ALLOW_IPS: 'foo' is not an address"):
        make()
    assert make(forwarded_allow_ips="*").settings.proxies.trusted == "*"


def test_attributes_have_the_names_and_defaults_that_hold() -> None:
    config = make(workers=2)
    assert (config.host, config.port, config.workers, config.reload) == ("127.0.0.1", 8000, 2, False)
    shown = vars(config)
    assert (shown["backlog"], shown["headers"], shown["reload_dirs"], shown["root_path"]) == (2048, [], [], "")


def test_attributes_have_the_values_that_text_stands_for() -> None:
    config = make(port="8123", workers="2", timeout_keep_alive="7", reload="no", limit_memory="1G")
    assert (config.port, config.workers, config.reload) == (8123, 2, False)
    assert (vars(config)["timeout_keep_alive"], vars(config)["limit_memory"]) == (7.0, 2**30)


def test_attributes_may_be_changed_until_the_server_starts() -> None:
    config = make()
    config.port = 9000
    assert config.settings.bind.port == 9000
    setattr(config, "port", "9001")  # noqa: B010  # as programs do that read the environment
    assert config.settings.bind.port == 9001
    config.port = -1
    with pytest.raises(SettingsError):
        config.settings  # noqa: B018


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (False, False)),
        ({"workers": 2}, (False, True)),
        ({"reload": True}, (True, True)),
    ],
)
def test_it_tells_whether_there_are_other_processes(options: dict[str, Any], expected: tuple[bool, bool]) -> None:
    config = make(**options)
    assert (config.should_reload, config.use_subprocess) == expected


def test_an_application_object_cannot_be_imported_anew() -> None:
    assert not Config(app, reload=True, log_config=None).should_reload


def test_the_environment_decides_where_uvicorn_lets_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "my.env").write_text("FORWARDED_ALLOW_IPS=10.0.0.1\n")
    monkeypatch.setenv("WEB_CONCURRENCY", "3")
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "")
    monkeypatch.delenv("FORWARDED_ALLOW_IPS")
    monkeypatch.setenv("UVICORN_PORT", "9")
    config = make(env_file=tmp_path / "my.env")
    assert (config.workers, config.port, vars(config)["forwarded_allow_ips"]) == (3, 8000, "10.0.0.1")
    assert make(workers=1).workers == 1


def test_the_application_is_loaded_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loaded_by_config.py").write_text("async def app(scope, receive, send): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = Config("loaded_by_config:app", log_config=None)
    assert not config.loaded
    config.load()
    assert vars(config)["loaded"]
    assert getattr(config.loaded_app, "__name__", None) == "app"
    assert Config(app, log_config=None).load_app() is app
    assert Config(lambda: app, factory=True, log_config=None).load_app() is app


def test_the_path_for_modules_is_left_as_it_is_unless_it_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(AppLoadError):
        Config("only_here:app", log_config=None).load_app()


def test_an_application_that_cannot_be_loaded_ends_the_program(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SystemExit) as left:
        Config("absent_module:app", log_config=None).load()
    assert left.value.code == 3
    assert caplog.messages[-1].startswith('Error loading ASGI app: there is no module "absent_module"')


def test_a_socket_can_be_bound_and_is_announced(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "fastserve")
    with make(port=0).bind_socket() as sock:
        port = sock.getsockname()[1]
        assert caplog.messages == [f"Fastserve running on http://127.0.0.1:{port} (Press CTRL+C to quit)"]
        sock.listen()
        with pytest.raises(SystemExit) as left:
            make(port=port).bind_socket()
    assert left.value.code == 3
    assert caplog.messages[-1] == f"cannot listen on 127.0.0.1:{port}: Address already in use"


def test_a_socket_for_tls_is_announced_as_that(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level("INFO", "fastserve")
    with make(port=0, **write_pair(tmp_path)).bind_socket() as sock:
        port = sock.getsockname()[1]
    assert caplog.messages == [f"Fastserve running on https://127.0.0.1:{port} (Press CTRL+C to quit)"]


def test_attributes_have_all_names_that_arguments_have() -> None:
    config = make(h11_max_incomplete_event_size=9000, timeout_worker_healthcheck=7, reload_dir=["a"])
    assert (config.h11_max_incomplete_event_size, config.limit_request_head) == (9000, 9000)
    assert (config.timeout_worker_healthcheck, config.timeout_worker) == (7.0, 7.0)
    assert config.reload_dir == config.reload_dirs == ["a"]
    config.h11_max_incomplete_event_size = 8000
    assert config.settings.requests.head_bytes == 8000
    with pytest.raises(AttributeError, match=r"^'Config' object has no attribute 'prot'$"):
        config.prot  # noqa: B018


def test_what_is_so_in_any_case_cannot_be_changed() -> None:
    config: Any = make()
    for name, value in {"http2": False, "reset_contextvars": True, "ssl_context_factory": None}.items():
        assert getattr(config, name) is value
        with pytest.raises(AttributeError):
            setattr(config, name, not value)


def test_directories_that_are_not_watched_are_shown(tmp_path: Path) -> None:
    assert make(reload_excludes=[str(tmp_path), "*.txt"]).reload_dirs_excludes == [tmp_path]


def test_the_context_for_tls_is_there_when_it_is_loaded(tmp_path: Path) -> None:
    tls: dict[str, Any] = dict(write_pair(tmp_path))
    plain, encrypted = Config(app, log_config=None), Config(app, log_config=None, **tls)
    contexts = [encrypted.ssl]
    for config in (plain, encrypted):
        config.load()
        contexts.append(config.ssl)
    assert contexts[:2] == [None, None]
    assert isinstance(contexts[2], ssl.SSLContext)
    with pytest.raises(SystemExit):
        Config(app, log_config=None, ssl_certfile=str(tmp_path / "absent.pem")).load()


def test_fields_of_every_response_are_shown() -> None:
    assert make(headers=[("A", "b")]).encoded_headers == [(b"server", b"fastserve"), (b"a", b"b")]
    assert make(headers=[("Server", "x")]).encoded_headers == [(b"server", b"x")]
    assert make(server_header=False).encoded_headers == []


def test_the_loop_is_made_by_a_factory() -> None:
    loop = make(loop="asyncio").get_loop_factory()()
    loop.close()
    with pytest.raises(AttributeError, match="get_loop_factory"):
        make().setup_event_loop()


def test_logging_is_configured_when_it_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    Config("main:app", use_colors=False)
    logging.getLogger("fastserve").info("one")
    Config("main:app", log_level="warning", use_colors=False)
    logging.getLogger("fastserve").info("two")
    Config("main:app", log_level=35, use_colors=False)
    logging.getLogger("fastserve").warning("three")
    logging.getLogger("fastserve").error("four")
    assert capsys.readouterr().err == "INFO:     one\nERROR:    four\n"


def test_a_changed_copy_of_the_standard_configuration_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    changed = {**LOGGING_CONFIG, "formatters": {**LOGGING_CONFIG["formatters"]}}
    changed["formatters"]["default"] = {"()": "uvicorn.logging.DefaultFormatter", "fmt": "mine %(message)s"}
    Config("main:app", log_config=changed)
    logging.getLogger("fastserve").info("x")
    assert capsys.readouterr().err == "mine x\n"


def test_the_package_gives_what_programs_use_and_nothing_else() -> None:
    assert fastserve.Config is Config
    assert fastserve.config.LOGGING_CONFIG is LOGGING_CONFIG
    formatters = {name for name in dir(uvicorn.logging) if name.endswith("Formatter")}
    assert formatters == {name for name in fastserve.logging.__all__ if name.endswith("Formatter")}
    assert fastserve.logging.TRACE_LOG_LEVEL == uvicorn.logging.TRACE_LOG_LEVEL
    assert {"Config", "Server", "run", "serve"} <= set(fastserve.__all__) <= set(dir(fastserve))
    assert {"config", "testing", "__version__"} <= set(dir(fastserve))
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        fastserve.absent  # noqa: B018


def test_a_level_of_logging_without_a_name_is_named_by_its_number() -> None:
    assert as_option("log_level", logging.INFO) == ("log_level", "info")
    with pytest.raises(SettingsError, match=r"^--log-level: 15 is not one of "):
        as_option("log_level", 15)
