"""What an application is told of a TLS connection (ASGI TLS extension 0.2)."""

from __future__ import annotations

import ssl
from typing import Any, cast

from fastserve.net.certificates import Context

_VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}
# RFC 4514 §3, by the names that OpenSSL has. Other types keep those names.
_SHORT = {
    "commonName": "CN",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
}


def describe_tls(tls: ssl.SSLObject) -> dict[str, Any]:
    """Return the value of `scope["extensions"]["tls"]` for a connection whose handshake is complete."""
    context = cast(Context, tls.context)
    cipher = tls.cipher()
    return {
        "server_cert": context.certificate,
        "client_cert_chain": _client_chain(tls),
        "client_cert_name": _client_name(tls),
        "client_cert_error": None,  # One that is not good ends the handshake.
        "tls_version": _VERSIONS.get(tls.version() or ""),
        "cipher_suite": context.suites.get(cipher[0]) if cipher is not None else None,
    }


def _client_chain(tls: ssl.SSLObject) -> list[str]:
    """Return what the client has sent, its own certificate first; before Python 3.13 only that is known."""
    own = tls.getpeercert(binary_form=True)
    if own is None:
        return []
    chain = tls.get_unverified_chain() if hasattr(tls, "get_unverified_chain") else [own]
    return [ssl.DER_cert_to_PEM_cert(each) for each in chain]


def _client_name(tls: ssl.SSLObject) -> str | None:
    certificate = tls.getpeercert()
    return encode_name(certificate.get("subject", ())) if certificate else None


def encode_name(name: Any) -> str:
    """Return a distinguished name, as Python's ssl module has it, in the text form of RFC 4514."""
    return ",".join(
        "+".join(f"{_SHORT.get(kind, kind)}={_escape(value)}" for kind, value in relative)
        for relative in reversed(name)
    )


def _escape(value: str) -> str:
    """Return a value with everything escaped that has a meaning (RFC 4514 §2.4)."""
    text = "".join(f"\\{char}" if char in '"+,;<>\\' else char for char in value).replace("\0", "\\00")
    if text.startswith(("#", " ")):
        text = "\\" + text
    return text[:-1] + "\\ " if text.endswith(" ") and len(value) > 1 else text
