"""From what is given for an option to its value: by the command line, the environment, files and programs.

Whether the value is in its bounds is said by the settings.
"""

from __future__ import annotations

import os
import typing
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from typing import Any

from fastserve.errors import SettingsError
from fastserve.peers import STANDS_FOR, VALUES
from fastserve.settings import Option, declared_options, option_groups, option_name, parse_size

_TRUE = ("true", "t", "yes", "y", "on", "1")
_FALSE = ("false", "f", "no", "n", "off", "0")


class Declaration(typing.NamedTuple):
    """An option, and the type of its values: of each one when there may be several."""

    option: Option
    kinds: tuple[Any, ...]
    is_multiple: bool


@cache
def declarations() -> dict[str, Declaration]:
    """Return what is declared of every option, by its name; not to be changed."""
    found = {}
    for _, group in option_groups():
        annotations = typing.get_type_hints(group)
        for name, declared in declared_options(group):
            found[option_name(declared)] = declaration(declared, annotations[name])
    return found


def declaration(declared: Option, annotation: Any) -> Declaration:
    """Return the declaration of an option whose field has this annotation."""
    is_multiple = typing.get_origin(annotation) is tuple
    return Declaration(declared, typing.get_args(annotation) or (annotation,), is_multiple)


def convert(declared: Declaration, given: Any) -> Any:
    """Return a value of an option; one of those when there may be several.

    Raises:
        ValueError: it can be none. The message does not name the option.
    """
    name = option_name(declared.option)
    try:
        if isinstance(given, type):
            raise ValueError(f"{given.__name__} cannot be plugged in")
        if declared.option.choices:
            return _choice(declared.option, STANDS_FOR.get(name, {}), given)
        return _conversion(declared)(given)
    except ValueError as error:
        if declared.option.is_secret:
            raise ValueError("what is given is not text") from None
        advice = f"; {VALUES[name]}" if name in VALUES else ""
        raise ValueError(f"{error}{advice}") from None


def value_of(declared: Declaration, given: Any) -> Any:
    """Return the value of an option, a tuple when there may be several.

    Raises:
        SettingsError: see convert; the message names the option.
    """
    try:
        if not declared.is_multiple:
            return convert(declared, given)
        is_one = isinstance(given, str | os.PathLike) or not isinstance(given, Iterable)
        return tuple(convert(declared, each) for each in ((given,) if is_one else given))
    except ValueError as error:
        raise SettingsError(f"{error}", declared.option.flag) from None


def _conversion(declared: Declaration) -> Callable[[Any], Any]:
    if declared.option.is_field:
        return _field
    if declared.option.unit == "bytes":
        return _size
    if declared.option.is_list:
        return _texts
    words = [
        word for kind in declared.kinds if typing.get_origin(kind) is typing.Literal for word in typing.get_args(kind)
    ]
    if words:
        return partial(_number_or_word, words)
    by_kind: dict[Any, Callable[[Any], Any]] = {bool: _switch, int: _whole_number, float: number, bytes: _bytes_or_text}
    return next((by_kind[kind] for kind in declared.kinds if kind in by_kind), _text)


def _switch(given: Any) -> bool:
    if isinstance(given, int) and given in (0, 1):
        return bool(given)
    if isinstance(given, str):
        word = given.strip().lower()
        if word in _TRUE:
            return True
        if word in _FALSE or not word:
            return False
    raise ValueError(f"{given!r} is not one of {', '.join((*_TRUE, *_FALSE))}")


def _whole_number(given: Any) -> int:
    try:
        return int(_numeral(given, int))
    except ValueError:
        raise ValueError(f"{given!r} is not a whole number") from None


def number(given: Any) -> float:
    """Return a number.

    Raises:
        ValueError: it is none.
    """
    try:
        return float(_numeral(given, int | float))
    except (ValueError, OverflowError):
        raise ValueError(f"{given!r} is not a number") from None


def _number_or_word(words: Sequence[str], given: Any) -> int | str:
    if given in words:
        return str(given)
    try:
        return _whole_number(given)
    except ValueError:
        raise ValueError(f"{given!r} is neither a number nor {' nor '.join(map(repr, words))}") from None


def _size(given: Any) -> int:
    try:
        size = parse_size(str(_numeral(given, int)))
    except ValueError:
        size = None
    if size is None:
        raise ValueError(f"{given!r} is not a size such as 65536, 512K or 1.5G")
    return size


def _numeral(given: Any, kinds: Any) -> Any:
    """Return what is text or a number, which no switch is, though Python has them as numbers."""
    if isinstance(given, bool) or not isinstance(given, str | kinds):
        raise ValueError
    return given


def _text(given: Any) -> str:
    if isinstance(given, str):
        return given
    if isinstance(given, os.PathLike) and isinstance(path := os.fspath(given), str):
        return path
    if isinstance(given, int | float) and not isinstance(given, bool):
        return str(given)
    raise ValueError(f"{given!r} is not text")


def _texts(given: Any) -> str:
    return ",".join(map(_text, given)) if isinstance(given, list | tuple) else _text(given)


def _bytes_or_text(given: Any) -> bytes | str:
    return bytes(given) if isinstance(given, bytes | bytearray) else _text(given)


def _choice(declared: Option, others: dict[str, str], given: Any) -> str:
    word = given.lower() if isinstance(given, str) and declared.ignores_case else given
    if isinstance(word, str) and (word in declared.choices or word in others):
        return others.get(word, word)
    raise ValueError(f"{given!r} is not one of {', '.join(declared.choices)}")


def _field(given: Any) -> str:
    """Return a field as NAME:VALUE, also of the pairs that uvicorn's programs have."""
    if isinstance(given, list | tuple):
        if len(given) == 2 and all(isinstance(each, str | bytes) for each in given):
            return ": ".join(each.decode("latin-1") if isinstance(each, bytes) else each for each in given)
        raise ValueError(f"{given!r} is not a name and a value")
    return _text(given)
