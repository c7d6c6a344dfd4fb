"""Where a task waits: the stack of what is suspended, which is not that of any thread."""

from __future__ import annotations

import asyncio
import gc
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import AsyncGeneratorType, CoroutineType, FrameType, GeneratorType

_PACKAGE = str(Path(__file__).parents[1])
# What has a frame that is suspended, and the names of that and of what it waits for.
_SUSPENDED: dict[type, tuple[str, str]] = {
    CoroutineType: ("cr_frame", "cr_await"),
    GeneratorType: ("gi_frame", "gi_yieldfrom"),
    AsyncGeneratorType: ("ag_frame", "ag_await"),
}


def waiting_stack(task: asyncio.Task[object]) -> str:
    """Return where a task waits, as in a traceback, the outermost call first and without those of the server."""
    frames = [frame for frame in _frames(task) if not frame.f_code.co_filename.startswith(_PACKAGE)]
    return "".join(traceback.StackSummary.extract((frame, frame.f_lineno) for frame in frames).format())


def _frames(task: asyncio.Task[object]) -> Iterator[FrameType]:
    waiting: object = task
    seen: set[int] = set()
    while waiting is not None and id(waiting) not in seen:
        seen.add(id(waiting))
        names = _SUSPENDED.get(type(waiting))
        if names is None:
            waiting = _what_it_is_for(waiting)
            continue
        frame = getattr(waiting, names[0])
        if frame is not None:
            yield frame
        waiting = getattr(waiting, names[1])


def _what_it_is_for(waiting: object) -> object:
    """Return what an object without a frame stands for, as a task does for its coroutine."""
    if isinstance(waiting, asyncio.Task):
        return waiting.get_coro()
    # Only the garbage collector knows the generator behind what `anext` returns.
    known = (*_SUSPENDED, asyncio.Task)
    referents = gc.get_referents(waiting)
    return next((each for each in referents if isinstance(each, known) or hasattr(type(each), "send")), None)
