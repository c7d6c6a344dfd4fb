"""Bodies from files (ASGI extensions `http.response.pathsend` and `http.response.zerocopysend`).

Where the connection can, the kernel sends the file; elsewhere its content goes the way of any other body.

Never compiled: compiled coroutines are not what `inspect.iscoroutine` knows.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Awaitable
from typing import Any, Protocol

from fastserve.asgi.types import Message
from fastserve.errors import InvalidMessage, InvalidResponse
from fastserve.wire.events import RequestHead

# How much of a file is in memory at a time, where it has to be copied.
_COPY_BYTES = 128 * 1024


class Sending(Protocol):
    """A response that waits for its body, or the next part of it."""

    head: RequestHead

    def declare_length(self, length: int) -> int | None:
        """Declare the length of the body; see Exchange."""

    def send_file(self, fd: int, offset: int, count: int, last: bool) -> Awaitable[None] | None:
        """Send a part of the body from a file; see Exchange."""

    def send(self, message: Message) -> Awaitable[None]:
        """Send a message; see Exchange."""

    def has_begun(self) -> bool:
        """Tell whether a part of the body is sent."""


async def send_path(response: Sending, path: str) -> None:
    """Send a file as the whole body.

    A relative path is one from the working directory: the specification asks for an absolute one, and Starlette passes
    on what its users write. When the file is longer than what the application has declared, it has grown since, and
    what was declared is sent.

    Raises:
        OSError: it cannot be opened.
        InvalidMessage: it is no file.
        InvalidResponse: it is shorter than what the application has declared.
    """
    if not isinstance(path, str):
        raise InvalidMessage(f"the path of 'http.response.pathsend' must be a string: {path!r}")
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # which a FIFO would wait for
    try:
        size = _file_size(fd)
        declared = response.declare_length(size)
        if declared is not None and declared > size:
            raise InvalidResponse(f"{path} has {size} bytes, fewer than its Content-Length, {declared}")
        await _send(response, fd, 0, size if declared is None else declared, last=True)
    finally:
        os.close(fd)


async def send_open_file(response: Sending, file: Any, offset: int | None, count: int | None, *, last: bool) -> None:
    """Send a part of an open file as a part of the body, as far as there is one.

    Without an offset the position of the file is used, and moved. Without a count it is all up to its end.

    Raises:
        InvalidMessage: it is no regular file, or the numbers are none.
    """
    fd = file if isinstance(file, int) else file.fileno()
    size = _file_size(fd)
    begin = os.lseek(fd, 0, os.SEEK_CUR) if offset is None else offset
    if begin < 0 or (count is not None and count < 0):
        raise InvalidMessage(f"'http.response.zerocopysend' of {count} bytes from {begin} on")
    left = max(size - begin, 0)
    count = left if count is None else min(count, left)
    if last and not response.has_begun():
        response.declare_length(count)
    if offset is None:
        os.lseek(fd, begin + count, os.SEEK_SET)
    await _send(response, fd, begin, count, last=last)


def _file_size(fd: int) -> int:
    seen = os.fstat(fd)
    if not stat.S_ISREG(seen.st_mode):
        raise InvalidMessage("what is to be sent is not a regular file")
    return seen.st_size


async def _send(response: Sending, fd: int, offset: int, count: int, *, last: bool) -> None:
    if response.head.method == "HEAD" or not count:
        await response.send({"type": "http.response.body", "more_body": not last})
        return
    sent = response.send_file(fd, offset, count, last)
    if sent is not None:
        await sent
        return
    end = offset + count
    while offset < end:
        data = os.pread(fd, min(end - offset, _COPY_BYTES), offset)
        if not data:
            raise InvalidResponse(f"the file became shorter while it was sent: it ends at {offset}, not {end}")
        offset += len(data)
        await response.send({"type": "http.response.body", "body": data, "more_body": offset < end or not last})
