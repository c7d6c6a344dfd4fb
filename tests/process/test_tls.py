"""TLS from outside: real servers, and real clients of several kinds."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.certificates import client_context, dns_names, flags, issue, write_authority, write_pair

from .running import WORKERS, Gate, RawClient, RunningServer, Start, wait_until

LOOPS = pytest.mark.parametrize("loop", ["uvloop", "asyncio"])


@pytest.fixture
def pair(folder: Path) -> list[str]:
    """The options that name a certificate and its key."""
    return list(flags(write_pair(folder)))


class RawTlsClient(RawClient):
    """A TLS connection on which the test says every byte."""

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext | None = None) -> None:
        super().__init__(address)
        self._file.close()
        context = context or client_context()
        self.sock = context.wrap_socket(self.sock, server_hostname="localhost", suppress_ragged_eofs=False)
        self._file = self.sock.makefile("rb")

    def __enter__(self) -> RawTlsClient:
        return self

    @property
    def tls(self) -> ssl.SSLSocket:
        assert isinstance(self.sock, ssl.SSLSocket)
        return self.sock


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(verify=client_context(), trust_env=False, timeout=30) as client:
        yield client


def url_of(server: RunningServer, path: str = "/") -> str:
    return f"https://localhost:{server.address[1]}{path}"


def names_at(address: tuple[str, int]) -> list[str]:
    """Return the names in the certificate that a server has now."""
    context = client_context()
    context.check_hostname = False
    with RawTlsClient(address, context) as client:
        certificate = client.tls.getpeercert()
        assert certificate is not None
        return dns_names(certificate)


def renew(folder: Path, name: str) -> None:
    """Put another pair in place of the one that is served, as a tool that renews does: the certificate first."""
    (folder / "renewed").mkdir()
    write_pair(folder / "renewed", name)
    for file in ("server.pem", "server.key"):
        os.replace(folder / "renewed" / file, folder / file)


# Serving.


@LOOPS
@WORKERS
def test_requests_are_served_over_tls(
    loop: str, workers: str, start: Start, pair: list[str], client: httpx.Client
) -> None:
    server = start("served:app", "--port", "0", "--loop", loop, "--workers", workers, *pair).wait_ready()
    assert server.url.startswith("https://127.0.0.1:")
    seen = client.get(url_of(server, "/scope?a=b")).json()
    assert (seen["scheme"], seen["path"], seen["query_string"]) == ("https", "/scope", "a=b")
    body = os.urandom(3 << 20)
    assert client.post(url_of(server, "/echo"), content=body).content == body
    assert len(client.get(url_of(server, "/parts?40")).content) == 40 * 65536
    assert server.stop() == 0


def test_curl_is_served(start: Start, pair: list[str], folder: Path) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    server = start("served:app", "--port", "0", *pair).wait_ready()
    command = [curl, "--silent", "--show-error", "--cacert", write_authority(folder), "--noproxy", "*"]
    done = subprocess.run([*command, "--http1.1", "--tlsv1.3", url_of(server)], capture_output=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello", b"")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_verifies_the_chain_and_ends_cleanly(version: str, start: Start, pair: list[str], folder: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    server = start("served:app", "--port", "0", *pair).wait_ready()
    command = [openssl, "s_client", version, "-connect", f"127.0.0.1:{server.address[1]}", "-quiet", "-ign_eof"]
    command += ["-CAfile", write_authority(folder), "-verify_return_error", "-servername", "localhost"]
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    done = subprocess.run(command, input=request, capture_output=True, timeout=30)
    assert done.stdout.endswith(b"\r\n\r\nhello")
    assert done.returncode == 0, done.stderr
    assert b"unexpected eof" not in done.stderr


@WORKERS
def test_a_session_is_resumed_whichever_worker_made_it(workers: str, start: Start, pair: list[str]) -> None:
    server = start("served:app", "--port", "0", "--workers", workers, *pair).wait_ready()
    context = client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # In 1.3 a session comes only with the first data.
    with RawTlsClient(server.address, context) as first:
        session = first.tls.session
    for _ in range(8):
        sock = socket.create_connection(server.address)
        with context.wrap_socket(sock, server_hostname="localhost", session=session) as resumed:
            assert resumed.session_reused


def test_plain_http_gets_an_answer_that_can_be_read(start: Start, pair: list[str]) -> None:
    server = start("served:app", "--port", "0", *pair).wait_ready()
    with RawClient(server.address) as client:
        answer = client.get("/").answer()
        assert (answer.status, answer.fields["connection"]) == (400, "close")
        assert b"https://" in answer.body
        assert client.rest() == b""
    server.wait_log("plain HTTP was sent to a TLS port")


def test_tls_to_a_plain_port_gets_an_answer_and_a_hint_in_the_log(start: Start) -> None:
    server = start("served:app", "--port", "0").wait_ready()
    with pytest.raises(ssl.SSLError, match=r"WRONG_VERSION_NUMBER|RECORD_LAYER|wrong version|record layer"):
        RawTlsClient(server.address)
    server.wait_log("refused with 400: TLS was sent to a plain HTTP port")


def test_a_handshake_that_takes_too_long_is_cut_off(start: Start, pair: list[str]) -> None:
    server = start("served:app", "--port", "0", "--ssl-handshake-timeout", "0.5", *pair).wait_ready()
    with RawClient(server.address) as client:
        assert client.rest() == b""


def test_tls_works_on_a_unix_socket(start: Start, pair: list[str], folder: Path) -> None:
    server = start("served:app", "--bind", "unix:app.sock", *pair).wait_ready()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(folder / "app.sock"))
        with client_context().wrap_socket(sock, server_hostname="localhost") as tls:
            tls.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert b"".join(iter(lambda: tls.recv(4096), b"")).endswith(b"hello")
    assert server.stop() == 0


# Clients.


def test_client_certificates_are_asked_for(start: Start, pair: list[str], folder: Path) -> None:
    options = [*pair, "--ssl-cert-reqs", "2", "--ssl-ca-certs", write_authority(folder)]
    server = start("served:app", "--port", "0", *options).wait_ready()
    own = issue("client.example", common_name="client.example")
    with RawTlsClient(server.address, client_context(own)) as client:
        assert client.get("/").answer().body == b"hello"
    with pytest.raises((ssl.SSLError, ConnectionResetError)), RawTlsClient(server.address) as client:
        client.get("/").answer()
    server.wait_log("TLS handshake failed: PEER_DID_NOT_RETURN_A_CERTIFICATE")


def test_an_old_version_is_refused(start: Start, pair: list[str]) -> None:
    server = start("served:app", "--port", "0", "--ssl-min-version", "1.3", *pair).wait_ready()
    context = client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match=r"PROTOCOL_VERSION|protocol version"):
        RawTlsClient(server.address, context)


def test_the_name_chooses_the_certificate(start: Start, pair: list[str], folder: Path) -> None:
    (folder / "names").mkdir()
    write_pair(folder / "names", "other.example", stem="other.example")
    server = start("served:app", "--port", "0", *pair, "--ssl-sni-dir", "names").wait_ready()
    sock = socket.create_connection(server.address)
    with client_context().wrap_socket(sock, server_hostname="other.example"):
        pass  # It has been verified.


# Start.


@pytest.mark.parametrize(
    ("spoil", "status", "message"),
    [
        ("rm server.key", 3, "cannot read {folder}/server.key: No such file or directory"),
        ("cp names/other.key server.key", 3, "the key in {folder}/server.key is not that of the certificate in"),
        (": > server.pem", 3, "{folder}/server.pem has no certificate in PEM form"),
    ],
    ids=["no key", "another key", "an empty file"],
)
@WORKERS
def test_a_bad_certificate_stops_the_start(
    workers: str, spoil: str, status: int, message: str, start: Start, pair: list[str], folder: Path
) -> None:
    (folder / "names").mkdir()
    write_pair(folder / "names", "other.example", stem="other")
    subprocess.run(["/bin/sh", "-c", spoil], cwd=folder, check=True)
    server = start("served:app", "--port", "0", "--workers", workers, *pair)
    assert server.wait_exit() == status
    assert message.format(folder=folder) in server.log
    assert "Traceback" not in server.log
    assert "running on" not in server.log


def test_an_option_without_the_one_it_needs_is_an_error_of_usage(start: Start) -> None:
    server = start("served:app", "--port", "0", "--ssl-keyfile", "server.key")
    assert server.wait_exit() == 2
    assert server.log == "fastserve: error: --ssl-keyfile: it needs --ssl-certfile\n"


# Renewal.


@WORKERS
def test_a_renewed_certificate_is_served_without_a_restart(
    workers: str, start: Start, pair: list[str], folder: Path, client: httpx.Client
) -> None:
    server = start("served:app", "--port", "0", "--workers", workers, *pair).wait_ready()
    before = [worker.pid for worker in server.workers]
    assert "localhost" in names_at(server.address)
    with RawTlsClient(server.address) as kept:
        assert kept.get("/").answer().status == 200
        renew(folder, "renewed.example")
        wait_until(lambda: all(names_at(server.address) == ["renewed.example"] for _ in range(6)))
        assert kept.get("/").answer().status == 200
    assert [worker.pid for worker in server.workers] == before
    server.wait_log("The TLS certificates were loaded anew.")


@WORKERS
def test_sighup_renews_the_certificates_at_once(workers: str, start: Start, pair: list[str], folder: Path) -> None:
    server = start("served:app", "--port", "0", "--workers", workers, *pair).wait_ready()
    renew(folder, "renewed.example")
    server.send_signal(signal.SIGHUP)
    wait_until(lambda: names_at(server.address) == ["renewed.example"])
    assert server.stop() == 0


@WORKERS
def test_a_bad_new_certificate_is_told_of_and_not_used(
    workers: str, start: Start, pair: list[str], folder: Path
) -> None:
    server = start("served:app", "--port", "0", "--workers", workers, *pair).wait_ready()
    (folder / "server.pem").write_text("")
    server.send_signal(signal.SIGHUP)
    server.wait_log("has no certificate in PEM form. The certificates that were loaded before stay in use.")
    assert "localhost" in names_at(server.address)
    assert server.stop() == 0


# The end.


@LOOPS
@WORKERS
def test_a_running_request_is_finished_when_the_server_stops(
    loop: str, workers: str, start: Start, pair: list[str], folder: Path
) -> None:
    server = start("served:app", "--port", "0", "--loop", loop, "--workers", workers, *pair).wait_ready()
    gate = Gate(folder, "one")
    with RawTlsClient(server.address) as client, RawTlsClient(server.address) as idle:
        assert idle.get("/").answer().status == 200
        client.get("/gate?one")
        gate.wait_reached()
        server.send_signal(signal.SIGTERM)
        assert idle.rest() == b"", "it is told, by close_notify, that nothing more comes"
        gate.open()
        answer = client.answer()
        assert (answer.body, answer.fields["connection"]) == (b"through", "close")
        assert client.rest() == b""
    assert server.wait_exit() == 0


def test_no_request_is_lost_while_workers_are_replaced(start: Start, pair: list[str]) -> None:
    server = start("served:app", "--port", "0", "--workers", "2", *pair).wait_ready()
    before = {worker.pid for worker in server.workers}
    server.send_signal(signal.SIGHUP)
    answered = 0
    while before & {worker.pid for worker in server.workers} or answered < 20:
        with RawTlsClient(server.address) as client:
            assert client.get("/").answer().body == b"hello"
        answered += 1
    assert server.stop() == 0
