"""Certificates: what is read, what is wrong with it, and how it is renewed."""

from __future__ import annotations

import logging
import os
import shutil
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from fastserve.errors import CertificateError, SettingsError
from fastserve.net.certificates import Certificates, open_certificates
from fastserve.settings import TlsSettings
from tests.certificates import PASSWORD, client_context, dns_names, issue, tls_settings, write_authority, write_pair


def shake_hands(certificates: Certificates, name: str | None = "localhost") -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Return both ends, server first, of a handshake in memory. The client asks for this name."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = client_context()
    context.check_hostname = False
    server = certificates.context.wrap_bio(to_server, to_client, server_side=True)
    client = context.wrap_bio(to_client, to_server, server_hostname=name)
    for _ in range(4):
        for end in (client, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
    assert server.version() is not None
    return server, client


def names(certificates: Certificates, asked_for: str | None) -> list[str]:
    """Return the names in the certificate that a client gets."""
    _, client = shake_hands(certificates, asked_for)
    certificate = client.getpeercert()
    assert certificate is not None
    return dns_names(certificate)


def write_encrypted(path: Path) -> None:
    """Encrypt the key in a file."""
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    how = serialization.BestAvailableEncryption(PASSWORD.encode())
    form = serialization.PrivateFormat.PKCS8
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, how))


# What is read.


def test_without_a_certificate_there_is_no_tls() -> None:
    assert open_certificates(TlsSettings()) is None


def test_the_key_may_be_in_the_file_of_the_certificate(tmp_path: Path) -> None:
    path = tmp_path / "both.pem"
    path.touch(mode=0o600)
    issue("localhost").private_key_and_cert_chain_pem.write_to_path(path)
    assert names(Certificates(TlsSettings(certfile=str(path))), "localhost") == ["localhost"]


@pytest.mark.parametrize("password", [PASSWORD, PASSWORD.encode()], ids=["text", "bytes"])
def test_a_key_with_a_password_is_read(password: str | bytes, tmp_path: Path) -> None:
    settings = tls_settings(tmp_path, keyfile_password=password)
    write_encrypted(tmp_path / "server.key")
    assert "localhost" in names(Certificates(settings), None)


def test_http_1_1_is_agreed_on(tmp_path: Path) -> None:
    certificates = Certificates(tls_settings(tmp_path))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = client_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    server = certificates.context.wrap_bio(to_server, to_client, server_side=True)
    client = context.wrap_bio(to_client, to_server, server_hostname="localhost")
    for end in (client, server, client):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            pass
    assert client.selected_alpn_protocol() == "http/1.1"


@pytest.mark.parametrize(
    ("options", "version"),
    [({}, "TLSv1.3"), ({"version": 2}, "TLSv1.3"), ({"version": 5}, "TLSv1.2"), ({"min_version": "1.3"}, "TLSv1.3")],
    ids=str,
)
def test_the_best_version_that_is_allowed_is_spoken(options: dict[str, str], version: str, tmp_path: Path) -> None:
    server, _ = shake_hands(Certificates(tls_settings(tmp_path, **options)))
    assert server.version() == version


@pytest.mark.parametrize(
    ("options", "least"),
    [({}, ssl.TLSVersion.TLSv1_2), ({"min_version": "1.3"}, ssl.TLSVersion.TLSv1_3)],
    ids=["default", "1.3"],
)
def test_older_versions_are_not_spoken(options: dict[str, str], least: ssl.TLSVersion, tmp_path: Path) -> None:
    context = Certificates(tls_settings(tmp_path, **options)).context
    assert context.minimum_version == least
    assert context.options & ssl.OP_NO_RENEGOTIATION


def test_ciphers_are_those_that_are_listed(tmp_path: Path) -> None:
    settings = tls_settings(tmp_path, ciphers="ECDHE+AESGCM", version=5)
    server, _ = shake_hands(Certificates(settings))
    cipher = server.cipher()
    assert cipher is not None
    assert cipher[0].startswith("ECDHE-")


# What is wrong.

BROKEN = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


def spoil(what: str, folder: Path) -> dict[str, str]:
    """Make something wrong in a folder with a good pair, and return what to set."""
    certificate, key = folder / "server.pem", folder / "server.key"
    spoils: dict[str, Callable[[], object]] = {
        "no certificate": certificate.unlink,
        "no key": key.unlink,
        "another key": lambda: key.write_bytes(issue("other.example").private_key_pem.bytes()),
        "an empty certificate": lambda: certificate.write_text(""),
        "an empty key": lambda: key.write_text(""),
        "a broken certificate": lambda: certificate.write_text(BROKEN),
        "a password": lambda: write_encrypted(key),
        "another password": lambda: write_encrypted(key),
        "empty authorities": (folder / "empty.pem").touch,
    }
    settings = {
        "another password": {"keyfile_password": "close sesame"},
        "no authorities": {"ca_certs": str(folder / "none.pem")},
        "empty authorities": {"ca_certs": str(folder / "empty.pem")},
        "no such cipher": {"ciphers": "NONE-SUCH"},
        "no folder of names": {"sni_dir": str(folder / "none")},
    }
    if what in spoils:
        spoils[what]()
    elif what not in settings:
        (folder / "names" / what).mkdir(parents=True)
        return {"sni_dir": str(folder / "names")}
    return settings.get(what, {})


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no certificate", "cannot read {folder}/server.pem: No such file or directory"),
        ("no key", "cannot read {folder}/server.key: No such file or directory"),
        ("another key", "the key in {folder}/server.key is not that of the certificate in {folder}/server.pem"),
        ("an empty certificate", "{folder}/server.pem has no certificate in PEM form"),
        ("an empty key", "{folder}/server.key has no key in PEM form"),
        ("a broken certificate", "cannot use {folder}/server.pem with the key in {folder}/server.key: "),
        ("a password", "the key in {folder}/server.key has a password, and none is given (--ssl-keyfile-password)"),
        ("another password", "the key in {folder}/server.key has another password (--ssl-keyfile-password)"),
        ("no authorities", "cannot read {folder}/none.pem: No such file or directory"),
        ("empty authorities", "--ssl-ca-certs: {folder}/empty.pem has no certificates in PEM form"),
        ("no such cipher", "--ssl-ciphers: 'NONE-SUCH' has no cipher that OpenSSL knows"),
        ("no folder of names", "--ssl-sni-dir: {folder}/none: No such file or directory"),
        ("a b", "--ssl-sni-dir: {folder}/names/a b is not named for a host"),
        ("a.example", "--ssl-sni-dir: {folder}/names/a.example has neither fullchain.pem nor tls.crt"),
    ],
)
def test_what_is_wrong_is_said(what: str, message: str, tmp_path: Path) -> None:
    settings = tls_settings(tmp_path)
    more = spoil(what, tmp_path)
    with pytest.raises(CertificateError) as raised:
        Certificates(TlsSettings(certfile=settings.certfile, keyfile=settings.keyfile, **more))  # type: ignore[arg-type]
    assert str(raised.value).startswith(message.format(folder=tmp_path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keyfile": "k"}, "--ssl-keyfile: it needs --ssl-certfile"),
        ({"sni_dir": "d"}, "--ssl-sni-dir: it needs --ssl-certfile"),
        ({"ca_certs": "c"}, "--ssl-ca-certs: it needs --ssl-certfile"),
        ({"cert_reqs": 1}, "--ssl-cert-reqs: it needs --ssl-certfile"),
        ({"ciphers": "HIGH"}, "--ssl-ciphers: it needs --ssl-certfile"),
        ({"handshake_s": 1.0}, "--ssl-handshake-timeout: it needs --ssl-certfile"),
        ({"keyfile_password": "p"}, "--ssl-keyfile-password: it needs --ssl-certfile"),
        ({"min_version": "1.3"}, "--ssl-min-version: it needs --ssl-certfile"),
        ({"version": 2}, "--ssl-version: it needs --ssl-certfile"),
        ({"certfile": "c", "cert_reqs": 2}, "--ssl-cert-reqs: 2 needs --ssl-ca-certs"),
    ],
    ids=str,
)
def test_an_option_that_needs_another_one_says_so(options: dict[str, str], message: str) -> None:
    settings = TlsSettings(**options)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=message):
        open_certificates(settings)


@pytest.mark.parametrize("has_name", [False, True])
def test_a_folder_without_certificates_is_warned_of(
    has_name: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "names"
    folder.mkdir()
    if has_name:
        pair = write_pair(folder, "a.example", stem="a.example")
        assert Path(pair["ssl_certfile"]).parent == folder
    Certificates(tls_settings(tmp_path, sni_dir=str(folder)))
    assert ("there is no certificate in" in caplog.text) is not has_name


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644], ids=oct)
def test_a_key_that_everyone_can_read_is_warned_of(mode: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = tls_settings(tmp_path)
    assert settings.keyfile is not None
    os.chmod(settings.keyfile, mode)
    Certificates(settings)
    warned = [record.getMessage() for record in caplog.records]
    assert warned == ([f"The key in {settings.keyfile} can be read by every user of this machine."] if mode & 4 else [])


# By name.


@pytest.fixture
def named(tmp_path: Path) -> Certificates:
    """A server with a certificate for localhost, and others in all the ways in which they can lie there."""
    folder = tmp_path / "names"
    folder.mkdir()
    write_pair(folder, "pair.example", stem="pair.example")
    path = folder / "Both.example.pem"
    path.touch(mode=0o600)
    issue("both.example").private_key_and_cert_chain_pem.write_to_path(path)
    for host, certificate, key in (
        ("certbot.example", "fullchain.pem", "privkey.pem"),
        ("kubernetes.example", "tls.crt", "tls.key"),
        ("_.wild.example", "fullchain.pem", "privkey.pem"),
    ):
        (folder / host).mkdir()
        written = write_pair(folder / host, host.replace("_", "*"))
        shutil.move(written["ssl_certfile"], folder / host / certificate)
        shutil.move(written["ssl_keyfile"], folder / host / key)
    (folder / "README").write_text("not a certificate")
    (folder / "..data").mkdir()
    return Certificates(tls_settings(tmp_path, sni_dir=str(folder)))


@pytest.mark.parametrize(
    ("asked_for", "got"),
    [
        ("pair.example", "pair.example"),
        ("PAIR.example", "pair.example"),
        ("both.example", "both.example"),
        ("certbot.example", "certbot.example"),
        ("kubernetes.example", "kubernetes.example"),
        ("a.wild.example", "*.wild.example"),
        ("a.b.wild.example", "localhost"),
        ("wild.example", "localhost"),
        ("unknown.example", "localhost"),
        (None, "localhost"),
    ],
)
def test_the_certificate_is_that_of_the_name(asked_for: str | None, got: str, named: Certificates) -> None:
    assert got in names(named, asked_for)


# Renewal.


def replace_pair(folder: Path, *names_: str) -> None:
    """Put another pair in its place, as a tool that renews does."""
    other = folder / "new"
    other.mkdir()
    write_pair(other, *names_)
    for name in ("server.key", "server.pem"):
        os.replace(other / name, folder / name)
    other.rmdir()


def test_a_changed_certificate_is_read_when_it_has_settled(tmp_path: Path) -> None:
    certificates = Certificates(tls_settings(tmp_path))
    before = certificates.context
    certificates.reload_if_changed()
    assert certificates.context is before
    replace_pair(tmp_path, "renewed.example")
    certificates.reload_if_changed()
    assert certificates.context is before, "it may still be in the middle of a change"
    certificates.reload_if_changed()
    assert names(certificates, None) == ["renewed.example"]
    renewed = certificates.context
    certificates.reload_if_changed()
    assert certificates.context is renewed


def test_a_certificate_for_a_new_name_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "names"
    folder.mkdir()
    certificates = Certificates(tls_settings(tmp_path, sni_dir=str(folder)))
    assert "localhost" in names(certificates, "new.example")
    write_pair(folder, "new.example", stem="new.example")
    for _ in range(2):
        certificates.reload_if_changed()
    assert names(certificates, "new.example") == ["new.example"]


@pytest.mark.parametrize("what", ["no certificate", "no key", "another key", "an empty certificate", "a password"])
def test_a_bad_new_certificate_leaves_the_old_one_in_use(
    what: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    certificates = Certificates(tls_settings(tmp_path))
    spoil(what, tmp_path)
    for _ in range(4):
        certificates.reload_if_changed()
    assert "localhost" in names(certificates, None)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1, "it is said once"
    assert told[0].endswith(". The certificates that were loaded before stay in use.")
    replace_pair(tmp_path, "renewed.example")
    for _ in range(2):
        certificates.reload_if_changed()
    assert names(certificates, None) == ["renewed.example"]


def test_certificates_are_read_again_on_demand(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    certificates = Certificates(tls_settings(tmp_path))
    replace_pair(tmp_path, "renewed.example")
    certificates.reload()
    assert names(certificates, None) == ["renewed.example"]
    assert caplog.messages == ["The TLS certificates were loaded anew."]


def test_an_authority_can_be_named_without_asking_for_certificates(tmp_path: Path) -> None:
    certificates = Certificates(tls_settings(tmp_path, ca_certs=write_authority(tmp_path)))
    assert certificates.context.verify_mode is ssl.CERT_NONE
