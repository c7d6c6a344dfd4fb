"""The certificates of a server: read from files, and again when these change; chosen by the name a client asks for.

Each handshake takes the context that there is at its time. A new one replaces it only when everything in it is good.
"""

from __future__ import annotations

import logging
import os
import re
import ssl
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from fastserve.errors import CertificateError
from fastserve.settings import TlsSettings

_log = logging.getLogger("fastserve")

ALPN = ("http/1.1",)
"""The protocols that are spoken over TLS, the preferred one first."""

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_TLS_1_2_ALONE = 5  # ssl.PROTOCOL_TLSv1_2, which Python deprecates
# What the two files are called in a folder for one name: by Certbot, and by Kubernetes.
_PAIRS = (("fullchain.pem", "privkey.pem"), ("tls.crt", "tls.key"))
_is_name = re.compile(r"(?:_\.)?[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?").fullmatch
_find_certificate = re.compile(r"-----BEGIN CERTIFICATE-----\n.*?\n-----END CERTIFICATE-----\n?", re.DOTALL).search

Signature: TypeAlias = tuple[tuple[str, int, int, int], ...]
"""What tells whether files have changed: of each its path, inode, size and time of modification."""


class Context(ssl.SSLContext):
    """A context with what the `tls` extension of ASGI tells of it.

    certificate: the server's, in PEM. suites: the numbers of cipher suites, by OpenSSL's names.
    """

    certificate: str
    suites: Mapping[str, int]


class Certificates:
    """The certificates that the options name.

    context: for a handshake that begins now. adapt: returns what is to be used in place of a context that was made by
    the options.

    Raises:
        CertificateError: a file is missing or bad, or the key is not that of the certificate.
    """

    def __init__(self, settings: TlsSettings, adapt: Callable[[Context], Context] = lambda context: context) -> None:
        self._settings = settings
        self._adapt = adapt
        self._loaded = self._seen = _signature(settings)
        self.context = adapt(_load(settings))

    def reload(self) -> None:
        """Read all files again. When something is wrong with them, what there was stays, and the log says so."""
        self._loaded = self._seen = _signature(self._settings)
        try:
            self.context = self._adapt(_load(self._settings))
        except (CertificateError, OSError) as error:  # A file may vanish between one look at it and the next.
            _log.error("%s. The certificates that were loaded before stay in use.", error)
        else:
            _log.info("The TLS certificates were loaded anew.")

    def reload_if_changed(self) -> None:
        """Read all files again when they are not what they were, and have not changed since they were last looked at.

        So a key that is written a moment after its certificate is waited for.
        """
        seen = _signature(self._settings)
        is_settled, self._seen = seen == self._seen, seen
        if is_settled and seen != self._loaded:
            self.reload()


def open_certificates(settings: TlsSettings) -> Certificates | None:
    """Return the certificates, None when TLS is not wanted.

    Raises:
        CertificateError: see Certificates.
        SettingsError: an option lacks another one that it needs.
    """
    settings.check_complete()
    return Certificates(settings) if settings.is_wanted else None


# Files.


def _signature(settings: TlsSettings) -> Signature:
    return tuple(_sign(path) for path in _paths(settings))


def _sign(path: str) -> tuple[str, int, int, int]:
    try:
        seen = os.stat(path)
    except OSError:
        return path, 0, 0, 0
    return path, seen.st_ino, seen.st_size, seen.st_mtime_ns


def _paths(settings: TlsSettings) -> Iterator[str]:
    """Yield all files that are read."""
    yield from {path for path in (settings.certfile, settings.keyfile, settings.ca_certs) if path is not None}
    if settings.sni_dir is not None:
        try:
            for _, certfile, keyfile in _named(Path(settings.sni_dir)):
                yield from {str(certfile), str(keyfile)}
        except CertificateError:
            yield settings.sni_dir


def _named(folder: Path) -> Iterator[tuple[str, Path, Path]]:
    """Yield the names that there are certificates for, as in "example.org" or "*.example.org", with both files."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise CertificateError(f"--ssl-sni-dir: {folder}: {error.strerror}") from None
    for entry in entries:
        name = entry.name if entry.is_dir() else entry.stem
        if entry.name.startswith(".") or not (entry.is_dir() or entry.suffix == ".pem"):
            continue  # such as the README of Certbot, and what Kubernetes has there for itself
        if not _is_name(name):
            raise CertificateError(f"--ssl-sni-dir: {entry} is not named for a host")
        yield name.lower().replace("_.", "*.", 1), *_pair(entry)


def _pair(entry: Path) -> tuple[Path, Path]:
    """Return the files of a certificate and its key."""
    if not entry.is_dir():
        key = entry.with_suffix(".key")
        return entry, key if key.exists() else entry
    for certificate, key_name in _PAIRS:
        if (entry / certificate).exists():
            return entry / certificate, entry / key_name
    raise CertificateError(f"--ssl-sni-dir: {entry} has neither {_PAIRS[0][0]} nor {_PAIRS[1][0]}")


# Contexts.


def _load(settings: TlsSettings) -> Context:
    """Return the context for a handshake, which chooses another one when the client asks for a name that has one."""
    assert settings.certfile is not None
    default = _new_context(settings, settings.certfile, settings.keyfile or settings.certfile)
    if settings.sni_dir is not None:
        named = {
            name: _new_context(settings, str(certfile), str(keyfile))
            for name, certfile, keyfile in _named(Path(settings.sni_dir))
        }
        if not named:
            _log.warning("--ssl-sni-dir: there is no certificate in %s yet.", settings.sni_dir)
        default.sni_callback = lambda tls, name, _: _choose(named, tls, name)
    return default


def _choose(named: Mapping[str, Context], tls: ssl.SSLObject, name: str | None) -> None:
    """Have a handshake use the certificate for this name, if there is one."""
    name = (name or "").lower()
    context = named.get(name) or named.get("*." + name.partition(".")[2])
    if context is not None:
        tls.context = context


def _new_context(settings: TlsSettings, certfile: str, keyfile: str) -> Context:
    context = Context(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[settings.min_version]
    if settings.version == _TLS_1_2_ALONE:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    # Renegotiation would let a client have the server do the costly part of a handshake over and over again.
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(list(ALPN))
    if settings.ciphers is not None:
        try:
            context.set_ciphers(settings.ciphers)
        except ssl.SSLError:
            raise CertificateError(f"--ssl-ciphers: {settings.ciphers!r} has no cipher that OpenSSL knows") from None
    context.certificate = _first_certificate(certfile)
    _load_pair(context, certfile, keyfile, settings.keyfile_password)
    if settings.ca_certs is not None:
        _load_authorities(context, settings.ca_certs)
    context.verify_mode = ssl.VerifyMode(settings.cert_reqs)
    context.suites = {suite["name"]: suite["id"] & 0xFFFF for suite in context.get_ciphers()}
    return context


def _first_certificate(certfile: str) -> str:
    """Return the certificate of the server itself, in PEM."""
    found = _find_certificate(_read(certfile).replace("\r\n", "\n"))
    if found is None:
        raise CertificateError(f"{certfile} has no certificate in PEM form")
    return found[0]


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="latin-1")
    except OSError as error:
        raise CertificateError(f"cannot read {path}: {error.strerror}") from None


def _load_pair(context: ssl.SSLContext, certfile: str, keyfile: str, password: str | bytes | None) -> None:
    if "PRIVATE KEY-----" not in _read(keyfile):
        raise CertificateError(f"{keyfile} has no key in PEM form")
    if os.stat(keyfile).st_mode & stat.S_IROTH:
        _log.warning("The key in %s can be read by every user of this machine.", keyfile)
    was_asked = False

    def give_password() -> str | bytes:
        nonlocal was_asked
        was_asked = True
        return password or ""

    try:
        context.load_cert_chain(certfile, keyfile, give_password)
    except (ssl.SSLError, ValueError) as error:
        if was_asked:
            reason = "has a password, and none is given" if password is None else "has another password"
            raise CertificateError(f"the key in {keyfile} {reason} (--ssl-keyfile-password)") from None
        if "KEY_VALUES_MISMATCH" in str(error):
            raise CertificateError(f"the key in {keyfile} is not that of the certificate in {certfile}") from None
        raise CertificateError(f"cannot use {certfile} with the key in {keyfile}: {error}") from None


def _load_authorities(context: ssl.SSLContext, path: str) -> None:
    _read(path)
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError as error:
        raise CertificateError(f"--ssl-ca-certs: {path} has no certificates in PEM form: {error}") from None
