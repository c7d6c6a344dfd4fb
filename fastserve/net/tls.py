"""TLS on any transport: to the transport below it is the protocol, and to the connection above it is the transport.

HANDSHAKE -> OPEN                   the connection above has its transport
          -> REFUSED                no TLS connection comes of it; whatever the peer still sends is dropped

OpenSSL works on memory and never on the socket, so deadlines, back-pressure and the two directions are those of plain
connections. Half of a connection can be closed here too: close_notify says that no more follows, and leaves the other
direction as it is (RFC 8446 §6.1).
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import ssl
from collections.abc import Iterable
from typing import Any, cast

from fastserve.addresses import describe_client
from fastserve.errors import ProtocolViolation
from fastserve.net.certificates import Certificates
from fastserve.net.connection import Connection, as_address
from fastserve.net.deadlines import Watched
from fastserve.net.state import ServerState
from fastserve.net.stream import Address
from fastserve.net.tlsinfo import describe_tls

_log = logging.getLogger("fastserve")

# How much OpenSSL is given at a time. Its buffers never shrink, so this bounds what an idle connection keeps.
_SLICE_BYTES = 32 * 1024
# The most that a record holds (RFC 8446 §5.1), and so what one read can give.
_RECORD_BYTES = 16 * 1024
# Up to here parts are joined, and leave in as few records as possible.
_JOIN_BYTES = 64 * 1024
_HANDSHAKE_RECORD = 22
# What came is no TLS: how long the client may go on sending, so that it gets to read the answer.
_REFUSED_S = 2.0
# The worker is about to stop: how long a handshake that has begun may still take.
_LAST_HANDSHAKE_S = 1.0
_REFUSAL_TEXT = b"Plain HTTP was sent to a port that speaks HTTPS: the URL has to begin with https://\n"
_REFUSAL = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%b" % (len(_REFUSAL_TEXT), _REFUSAL_TEXT)
)


class TlsPhase(enum.IntEnum):
    """What a TLS connection is doing."""

    HANDSHAKE = 0
    OPEN = 1
    REFUSED = 2


_HANDSHAKE, _OPEN, _REFUSED = TlsPhase


class TlsTransport(Watched):
    """The TLS of one connection, what asyncio.Transport is to the connection above.

    Until that has its transport, this stands for it among the connections of the worker. client, server: the addresses
    of both ends, as the connection above is going to have them.
    """

    __slots__ = (
        "_cuts_heads",
        "_handshake_s",
        "_has_begun",
        "_incoming",
        "_is_closing",
        "_is_draining",
        "_is_ended",
        "_is_shut",
        "_lower",
        "_outgoing",
        "_phase",
        "_protocol",
        "_state",
        "_tls",
        "client",
        "idle_since",
        "server",
    )

    def __init__(self, state: ServerState, certificates: Certificates, handshake_s: float) -> None:
        Watched.__init__(self)
        self._state = state
        self._handshake_s = handshake_s
        self._protocol: Connection | None = Connection(state)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = certificates.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._phase = _HANDSHAKE
        self._has_begun = False  # with a first byte that is TLS
        self._is_ended = False  # the peer has sent its last byte
        self._is_shut = False  # we have
        self._is_closing = False
        self.client: Address | None = None
        self.server: Address | None = None
        self.idle_since = state.deadlines.now
        self._is_draining = False  # told so during the handshake
        self._cuts_heads = False

    def __repr__(self) -> str:
        return f"<TlsTransport {TlsPhase(self._phase).name}>"

    # What the transport below calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport below."""
        self._lower = cast(asyncio.Transport, transport)
        if self.client is None and self.server is None:  # A proxy has not introduced it.
            self.client = as_address(transport.get_extra_info("peername"))
            self.server = as_address(transport.get_extra_info("sockname"))
        self._state.add(self)
        self._state.deadlines.set(self, self._handshake_s)

    def data_received(self, data: bytes) -> None:
        """Take what the peer has sent."""
        if not self._has_begun:
            self._has_begun = True
            if data[0] != _HANDSHAKE_RECORD:
                self._refuse(data)
        if len(data) <= _SLICE_BYTES:
            self._take(data)
        else:
            for at in range(0, len(data), _SLICE_BYTES):
                self._take(data[at : at + _SLICE_BYTES])

    def eof_received(self) -> bool:
        """Take note that the peer has sent its last byte, and tell whether to keep the transport for writing."""
        if self._phase != _OPEN:
            return False
        self._end()
        return True  # What closes it says so to the peer first.

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note that the transport below is closed."""
        protocol, self._protocol = self._protocol, None
        if self._phase == _OPEN and protocol is not None:
            protocol.connection_lost(exc)
        else:
            self._state.remove(self)

    def pause_writing(self) -> None:
        """Pass it on; the handshake needs no pauses."""
        if self._phase == _OPEN and self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        if self._phase == _OPEN and self._protocol is not None:
            self._protocol.resume_writing()

    # The handshake.

    def _shake_hands(self) -> None:
        """Go on with the handshake, as far as it goes."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError as error:
            self._flush()  # the alert
            _log.info("%s - TLS handshake failed: %s", describe_client(self.client), error.reason or error)
            self._phase = _REFUSED
            self._lower.close()
        else:
            self._open()

    def _open(self) -> None:
        """Give the connection above its transport."""
        protocol = self._protocol
        assert protocol is not None
        self._flush()
        self._phase = _OPEN
        protocol.scheme = "https"
        protocol.tls = describe_tls(self._tls)
        self._state.coming += 1
        self._state.remove(self)
        protocol.client, protocol.server = self.client, self.server
        protocol.connection_made(cast(asyncio.Transport, self))
        if self._is_draining:
            protocol.drain(cuts_heads=self._cuts_heads)

    def _refuse(self, data: bytes) -> None:
        """Answer what is no TLS, in plain text if that may be understood."""
        is_http = data[:1].isalpha()
        what = "plain HTTP" if is_http else "something that is not TLS"
        self._state.log_refusal(self.client, ProtocolViolation(f"{what} was sent to a TLS port"), False)
        self._phase = _REFUSED
        if not is_http:
            self._lower.close()
            return
        self._lower.write(_REFUSAL)
        with contextlib.suppress(OSError):  # The client is gone, which the transport is about to tell.
            self._lower.write_eof()
        self._state.deadlines.set(self, _REFUSED_S)

    def pass_deadline(self) -> None:
        """Act on a deadline that is over (see net.deadlines): there is no connection yet."""
        self._lower.abort()

    def drain(self, *, cuts_heads: bool) -> None:
        """See Connection: after a handshake that has begun, there may be a last request."""
        self._is_draining = True
        self._cuts_heads = cuts_heads
        self._state.deadlines.set(self, min(self._handshake_s, max(self._state.idle_s, _LAST_HANDSHAKE_S)))

    def close_if_idle(self) -> bool:
        """See Connection: nothing has come."""
        if not self._has_begun:
            self._lower.abort()
        return not self._has_begun

    def cut(self) -> None:
        """See Connection."""
        self._lower.abort()

    # Reading.

    def _take(self, data: bytes) -> None:
        """Decrypt, and pass on what that gives."""
        if self._phase == _REFUSED or self._is_ended or self._is_closing:
            return
        self._incoming.write(data)
        if self._phase == _HANDSHAKE:
            self._shake_hands()
        if self._phase == _OPEN and self._incoming.pending:
            self._read()

    def _read(self) -> None:
        part = self._read_record()
        data = part
        if part and self._incoming.pending:
            parts = []
            while part:
                parts.append(part)
                part = self._read_record() if self._incoming.pending else None
            data = b"".join(parts)
        if data and self._protocol is not None:
            self._protocol.data_received(data)
        if part == b"":
            self._end()

    def _read_record(self) -> bytes | None:
        """Return what the next record holds; None when there is none, b"" when it says that no more follows."""
        try:
            return self._tls.read(_RECORD_BYTES)
        except ssl.SSLWantReadError:
            self._flush()  # There may have been a message that had to be answered.
        except ssl.SSLZeroReturnError:
            return b""  # which read() raises, rather than returns, when we have sent close_notify too
        except ssl.SSLError as error:
            self._fail(error)
        return None

    def _end(self) -> None:
        """Tell the connection above that the peer has sent its last byte."""
        if not self._is_ended and self._protocol is not None:
            self._is_ended = True
            if not self._protocol.eof_received():
                self.close()

    def _fail(self, error: ssl.SSLError) -> None:
        """Cut the connection: what came, or was to be sent, cannot be decrypted or encrypted."""
        _log.info("%s - TLS failed: %s", describe_client(self.client), error.reason or error)
        self._flush()  # the alert
        self._is_closing = True
        self._lower.abort()

    def is_reading(self) -> bool:
        """See asyncio.ReadTransport."""
        return self._lower.is_reading()

    def pause_reading(self) -> None:
        """See asyncio.ReadTransport."""
        self._lower.pause_reading()

    def resume_reading(self) -> None:
        """See asyncio.ReadTransport."""
        self._lower.resume_reading()

    # Writing.

    def write(self, data: bytes) -> None:
        """Encrypt and send."""
        self._encrypt(data)
        self._flush()

    def writelines(self, list_of_data: Iterable[bytes]) -> None:
        """Encrypt and send parts one after the other."""
        parts = list(list_of_data)
        if sum([len(part) for part in parts]) <= _JOIN_BYTES:
            self._encrypt(b"".join(parts))
        else:
            for part in parts:
                self._encrypt(part)
        self._flush()

    def _encrypt(self, data: bytes) -> None:
        if self._is_closing or self._is_shut or not data:
            return
        try:
            sent = self._tls.write(data)
            if sent < len(data):
                self._encrypt_rest(memoryview(data), sent)
        except ssl.SSLError as error:
            self._fail(error)

    def _encrypt_rest(self, data: memoryview, at: int) -> None:
        """Encrypt the further records of what is longer than one."""
        while at < len(data):
            at += self._tls.write(data[at : at + _RECORD_BYTES])
            if self._outgoing.pending >= _JOIN_BYTES:
                self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._lower.write(self._outgoing.read())

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """See asyncio.WriteTransport: it is counted encrypted."""
        self._lower.set_write_buffer_limits(high=high, low=low)

    def get_write_buffer_size(self) -> int:
        """See asyncio.WriteTransport: it is counted encrypted."""
        return self._lower.get_write_buffer_size()

    # The end.

    def can_write_eof(self) -> bool:
        """See asyncio.WriteTransport."""
        return self._lower.can_write_eof()

    def write_eof(self) -> None:
        """Say that nothing more follows, and close this direction below too."""
        if not self._is_shut and not self._is_closing:
            self._say_goodbye()
            self._lower.write_eof()

    def is_closing(self) -> bool:
        """See asyncio.BaseTransport."""
        return self._is_closing or self._lower.is_closing()

    def close(self) -> None:
        """Say that nothing more follows, and close as soon as that is sent."""
        if not self._is_closing:
            self._say_goodbye()
            self._is_closing = True
            self._lower.close()

    def abort(self) -> None:
        """Close at once."""
        self._is_closing = True
        self._lower.abort()

    def _say_goodbye(self) -> None:
        """Send close_notify, once. That of the peer may come later, or never."""
        if not self._is_shut:
            self._is_shut = True
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()
            self._flush()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """See asyncio.BaseTransport."""
        return self._tls if name == "ssl_object" else self._lower.get_extra_info(name, default)
