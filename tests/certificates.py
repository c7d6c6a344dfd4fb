"""Certificates for tests, from an authority of their own, as files; and contexts of clients that trust it."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import trustme

from fastserve.settings import TlsSettings

PASSWORD = "open sesame"


@cache
def authority() -> trustme.CA:
    """The authority of all certificates: the server's and the clients'."""
    return trustme.CA()


@cache
def issue(*names: str, common_name: str | None = None) -> trustme.LeafCert:
    """Return a certificate for these names."""
    return authority().issue_cert(*names, common_name=common_name)


def write_pair(folder: Path, *names: str, stem: str = "server", leaf: trustme.LeafCert | None = None) -> dict[str, str]:
    """Write a certificate and its key, and return the options that name them."""
    leaf = leaf or issue(*(names or ("localhost", "127.0.0.1")))
    certificate, key = folder / f"{stem}.pem", folder / f"{stem}.key"
    certificate.write_bytes(b"".join(each.bytes() for each in leaf.cert_chain_pems))
    key.touch(mode=0o600)
    key.write_bytes(leaf.private_key_pem.bytes())
    return {"ssl_certfile": str(certificate), "ssl_keyfile": str(key)}


def write_authority(folder: Path) -> str:
    """Write the certificate of the authority, and return the file."""
    path = folder / "authority.pem"
    authority().cert_pem.write_to_path(path)
    return str(path)


def flags(options: dict[str, Any]) -> Sequence[str]:
    """Return options as they are given on the command line."""
    return [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]


def tls_settings(folder: Path, **more: Any) -> TlsSettings:
    """Return settings with a certificate of a server."""
    pair = write_pair(folder)
    return TlsSettings(certfile=pair["ssl_certfile"], keyfile=pair["ssl_keyfile"], **more)


def client_context(leaf: trustme.LeafCert | None = None) -> ssl.SSLContext:
    """Return the context of a client that trusts the authority. leaf: its own certificate."""
    context = ssl.create_default_context()
    authority().configure_trust(context)
    if leaf is not None:
        leaf.configure_cert(context)
    return context


def dns_names(certificate: Any) -> list[str]:
    """Return the host names of a certificate, as Python's ssl module has it."""
    return [value for kind, value in certificate["subjectAltName"] if kind == "DNS"]
