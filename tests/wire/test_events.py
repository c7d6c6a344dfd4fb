"""What the events say of themselves."""

from __future__ import annotations

import pytest

from fastserve.wire.events import RequestHead


@pytest.mark.parametrize(("length", "has_body"), [(0, False), (1, True), (None, True)])
def test_a_body_follows_a_head_that_declares_one(length: int | None, has_body: bool) -> None:
    head = RequestHead("POST", b"/", b"", "1.1", None, [], content_length=length)
    assert head.has_body() is has_body


def test_a_head_is_of_a_persistent_connection_without_a_body_unless_it_says_so() -> None:
    head = RequestHead("GET", b"/", b"", "1.1", None, [])
    assert not head.has_body()
    assert head.keep_alive
    assert not head.expects_continue
