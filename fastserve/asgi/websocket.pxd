cimport cython

from fastserve.asgi.arrival cimport Receiver
from fastserve.net.stream cimport Stream
from fastserve.wire.events cimport RequestHead
from fastserve.wire.ws.frames cimport encode_pong
from fastserve.wire.ws.reader cimport Reader
from fastserve.wire.ws.writer cimport Writer

cdef int _CONNECTING, _DENIAL_HELD, _DENYING, _OPEN, _CLOSING, _CLOSED
cdef double _CLOSE_S


cdef class SessionCaller:
    cdef readonly object woken

    cpdef call(self, Session session)
    cpdef answered(self, Session session)


cdef class Session(Receiver):
    cdef object _handshake
    cdef Stream _stream
    cdef SessionCaller _caller
    cdef object _settings
    cdef Py_ssize_t _max_queue, _max_unread
    cdef int _state
    cdef Reader _reader
    cdef Writer _writer
    cdef object _messages, _violation, _disconnect
    cdef list _pongs
    cdef Py_ssize_t _queued_bytes
    cdef bint _connect_is_taken, _connection_is_lost, _is_leaving, _has_heard
    cdef readonly bint peer_is_gone
    cdef double _ping_at, _pong_until, _close_until

    cpdef bint is_done(self) except -1
    cpdef bint is_answered(self) except -1
    @cython.locals(reader=Reader)
    cdef _pull(self)
    cdef bint _has_room(self) except -1
    cdef _take_control(self, object event)
    cdef _send_pongs(self)
    cdef _send_close_frame(self, int code, str reason)
    cdef _refuse(self)
    cdef _give_up(self)
    cdef _disconnected(self, int code, str reason=*)
    @cython.locals(is_deaf=bint)
    cdef double _keep_alive(self, double now) except -1
    cpdef object take_message(self)
    cdef object _take_received(self)
    @cython.locals(is_text=bint, content=dict)
    cdef object _send_message(self, object message)
    cdef object _send_close(self, object message)
    cdef _close(self, int code, str reason)
    cdef object _answer(self, object kind, object message)
    cdef object _accept(self, object message)
    cdef object _hold_denial(self, object status, object fields)
    cdef object _send_denial(self, object body, bint last)
    cdef object _deny(self, object status, object fields, bytes body)
    cpdef finish(self)
    cpdef fail(self)
    cpdef abandon(self)


cdef bytes _encode(object text)
cdef bytes _copy(object data)
