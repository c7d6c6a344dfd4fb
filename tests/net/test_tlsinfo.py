"""Distinguished names as text (RFC 4514)."""

from __future__ import annotations

from typing import Any

import pytest

from fastserve.net.tlsinfo import encode_name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ((), ""),
        (((("commonName", "Ada"),),), "CN=Ada"),
        (((("countryName", "GB"),), (("organizationName", "A"),), (("commonName", "Ada"),)), "CN=Ada,O=A,C=GB"),
        (((("commonName", "Ada"), ("userId", "7")),), "CN=Ada+UID=7"),
        (((("domainComponent", "org"),), (("domainComponent", "example"),)), "DC=example,DC=org"),
        (((("commonName", 'a,b+c"d\\e<f>g;h'),),), 'CN=a\\,b\\+c\\"d\\\\e\\<f\\>g\\;h'),
        (((("commonName", " a "),),), "CN=\\ a\\ "),
        (((("commonName", " "),),), "CN=\\ "),
        (((("commonName", "#a#"),),), "CN=\\#a#"),
        (((("commonName", "a\0b"),),), "CN=a\\00b"),
        (((("commonName", "Lučić"),),), "CN=Lučić"),
        (((("emailAddress", "a@b.example"),),), "emailAddress=a@b.example"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_name_is_written_as_the_rfc_has_it(name: Any, text: str) -> None:
    assert encode_name(name) == text
