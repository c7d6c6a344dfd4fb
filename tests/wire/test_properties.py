"""What holds for all bytes: it does not matter in which pieces they arrive, nor which library parses the fields."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from .generated import broken, conversations, cuts
from .peer import PARSERS, Ending, Message, Transcript, cut, cut_everywhere, read, read_pieces

_many = settings(max_examples=400, deadline=None)


@_many
@given(conversations(), cuts)
def test_valid_requests_in_any_pieces_are_read_as_they_were_written(
    conversation: tuple[bytes, tuple[Message, ...]], places: list[int]
) -> None:
    data, messages = conversation
    expected = Transcript(messages, Ending.IDLE if messages[-1].head.keep_alive else Ending.LAST)
    for parser in PARSERS:
        assert read(parser, data) == expected
        assert read_pieces(parser, cut(data, places)) == expected


def _check_that_pieces_and_parsers_do_not_matter(data: bytes, places: list[int], *, eof: bool) -> None:
    expected = read(PARSERS[0], data, eof=eof)
    for parser in PARSERS:
        assert read(parser, data, eof=eof) == expected
        assert read_pieces(parser, cut(data, places), eof=eof) == expected
        assert read_pieces(parser, cut_everywhere(data), eof=eof) == expected


@_many
@given(broken(conversations().map(lambda conversation: conversation[0])), cuts, st.booleans())
def test_broken_requests_come_to_the_same_in_any_pieces_with_any_parser(
    data: bytes, places: list[int], eof: bool
) -> None:
    _check_that_pieces_and_parsers_do_not_matter(data, places, eof=eof)


@_many
@given(st.binary(max_size=200), cuts, st.booleans())
def test_random_bytes_come_to_the_same_in_any_pieces_with_any_parser(data: bytes, places: list[int], eof: bool) -> None:
    _check_that_pieces_and_parsers_do_not_matter(data, places, eof=eof)
