"""Every request of the corpus is read as its expectation says: by both parsers, whole, byte by byte, and in any two."""

from __future__ import annotations

import pytest

from .corpus import FOLDER, ExpectedMessage, InvalidCase, ValidCase, invalid_cases, valid_cases
from .peer import Ending, Message, Transcript, cut_everywhere, cut_in_two, read, read_pieces

VALID = [pytest.param(case, id=case.name) for case in valid_cases()]
INVALID = [pytest.param(case, id=case.name) for case in invalid_cases()]


def _as_expected(message: Message) -> ExpectedMessage:
    """Return what the corpus says of messages."""
    head = message.head
    return ExpectedMessage(
        method=head.method,
        raw_path=head.raw_path,
        query=head.query,
        version=head.http_version,
        fields=tuple(head.fields),
        body=message.body,
        keep_alive=head.keep_alive,
        expects_continue=head.expects_continue,
    )


def _check_valid(case: ValidCase, transcript: Transcript) -> None:
    assert tuple(map(_as_expected, transcript.complete)) == case.messages
    assert len(transcript.complete) == len(transcript.messages)
    assert transcript.ending is (Ending.IDLE if case.messages[-1].keep_alive else Ending.LAST)
    assert transcript.unread == case.unread


def _check_invalid(case: InvalidCase, transcript: Transcript) -> None:
    assert transcript.ending == case.status
    assert len(transcript.complete) == case.accepted


@pytest.mark.parametrize("case", VALID)
def test_a_valid_request_that_arrives_whole_is_read_as_expected(case: ValidCase, parser: str) -> None:
    _check_valid(case, read(parser, case.data))


@pytest.mark.parametrize("case", VALID)
def test_a_valid_request_that_arrives_byte_by_byte_is_read_as_expected(case: ValidCase, parser: str) -> None:
    _check_valid(case, read_pieces(parser, cut_everywhere(case.data)))


@pytest.mark.parametrize("case", VALID)
def test_a_valid_request_that_arrives_in_any_two_pieces_is_read_as_expected(case: ValidCase, parser: str) -> None:
    for pieces in cut_in_two(case.data):
        _check_valid(case, read_pieces(parser, pieces))


@pytest.mark.parametrize("case", INVALID)
def test_an_invalid_request_that_arrives_whole_is_refused(case: InvalidCase, parser: str) -> None:
    _check_invalid(case, read(parser, case.data, eof=case.eof))


@pytest.mark.parametrize("case", INVALID)
def test_an_invalid_request_that_arrives_byte_by_byte_is_refused(case: InvalidCase, parser: str) -> None:
    _check_invalid(case, read_pieces(parser, cut_everywhere(case.data), eof=case.eof))


@pytest.mark.parametrize("case", INVALID)
def test_an_invalid_request_that_arrives_in_any_two_pieces_is_refused(case: InvalidCase, parser: str) -> None:
    for pieces in cut_in_two(case.data):
        _check_invalid(case, read_pieces(parser, pieces, eof=case.eof))


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in invalid_cases() if case.eof])
def test_a_request_that_is_cut_off_is_refused_only_when_the_client_has_closed(case: InvalidCase, parser: str) -> None:
    assert read(parser, case.data).ending is Ending.INCOMPLETE


@pytest.mark.parametrize("kind", ["valid", "invalid"])
def test_every_request_has_its_expectation_and_every_expectation_its_request(kind: str) -> None:
    requests = {path.stem for path in (FOLDER / kind).glob("*.http")}
    expectations = {path.stem for path in (FOLDER / kind).glob("*.toml")}
    assert requests == expectations
    assert len(requests) > 40
