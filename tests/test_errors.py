"""The exceptions: who catches what."""

from __future__ import annotations

import pytest

from fastserve import errors


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.SettingsError("x"), 2),
        (errors.StartupError("x"), 3),
        (errors.AppLoadError("x"), 3),
        (errors.BindError("x"), 3),
        (errors.LifespanError("x"), 3),
    ],
)
def test_an_error_before_the_server_serves_has_an_exit_status(
    error: errors.SettingsError | errors.StartupError, status: int
) -> None:
    assert (str(error), error.exit_code) == ("x", status)


@pytest.mark.parametrize(
    ("flags", "text", "placed"),
    [
        ((), "is bad", "is bad"),
        (("--a",), "--a: is bad", "A: is bad"),
        (("--a", "--b"), "--a and --b is bad", "A and --b is bad"),
    ],
)
def test_an_error_about_options_names_them_or_where_their_values_are_from(
    flags: tuple[str, ...], text: str, placed: str
) -> None:
    error = errors.SettingsError("is bad", *flags)
    assert (str(error), str(error.with_places({"--a": "A"}))) == (text, placed)


def test_an_error_of_loading_has_a_trace_if_there_is_one() -> None:
    assert (errors.AppLoadError("x").trace, errors.AppLoadError("x", "trace").trace) == ("", "trace")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (errors.StartupError("x"), "x"),
        (errors.BindError("cannot listen"), "cannot listen"),
        (errors.AppLoadError("x"), "Error loading ASGI app: x."),
        (errors.AppLoadError("x; is it y?"), "Error loading ASGI app: x; is it y?"),
        (errors.AppLoadError("x", "Traceback\n  y\n"), "Error loading ASGI app: x.\nTraceback\n  y"),
    ],
    ids=["plain", "of a kind", "of loading", "with a question", "with a trace"],
)
def test_an_error_before_the_server_serves_can_be_logged(error: errors.StartupError, text: str) -> None:
    assert error.explain() == text


def test_a_violation_is_answered_with_400_unless_it_says_otherwise() -> None:
    plain, other = errors.ProtocolViolation("x"), errors.ProtocolViolation("y", status=431)
    assert (plain.reason, plain.status, str(plain)) == ("x", 400, "x")
    assert (other.reason, other.status) == ("y", 431)


@pytest.mark.parametrize(
    ("error", "kinds"),
    [
        (errors.InvalidMessage, (errors.ApplicationError, RuntimeError)),
        (errors.InvalidResponse, (errors.ApplicationError, RuntimeError)),
        (errors.FieldsRefused, (errors.FastserveError,)),
        (errors.ClientDisconnected, (OSError,)),
    ],
)
def test_an_error_can_be_caught_as_what_it_is(error: type[Exception], kinds: tuple[type[Exception], ...]) -> None:
    assert all(issubclass(error, kind) for kind in kinds)


def test_the_disconnect_is_no_error_of_fastserve_so_that_nobody_catches_it_by_accident() -> None:
    assert not issubclass(errors.ClientDisconnected, errors.FastserveError)


def test_what_an_error_was_raised_because_of_is_told_once_also_of_a_circle() -> None:
    first, second, third = RuntimeError("first"), RuntimeError("second"), RuntimeError("third")
    first.__cause__, second.__context__, third.__cause__ = second, third, first
    assert list(errors.causes(first)) == [second, third]
    first.__cause__ = first
    assert list(errors.causes(first)) == []
    assert list(errors.causes(RuntimeError())) == []
