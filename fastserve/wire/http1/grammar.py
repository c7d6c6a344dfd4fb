"""The octets of the grammar of HTTP (RFC 9110 §5), which several modules read or write."""

from __future__ import annotations

TOKEN_OCTETS = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
"""Those of which tokens consist: methods, field names, codings (RFC 9110 §5.6.2)."""

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
"""A token, as a regular expression."""

VALUE_OCTETS = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])
"""Those of which field values consist: HTAB, SP, VCHAR and obs-text (RFC 9110 §5.5)."""

METHODS = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")}
"""The common methods, decoded once. Any other token is a method too."""
