cimport cython

from fastserve.net.state cimport ServerState
from fastserve.net.stream cimport Answering, Stream
from fastserve.wire.events cimport BodyData, RequestHead
from fastserve.wire.http1.protocol cimport Http1
from fastserve.wire.http1.response cimport ResponseEncoder

cdef int _RECEIVING, _SERVING, _DISCARDING, _WAITING, _SWITCHED, _LINGERING, _CLOSED
cdef Py_ssize_t _DISCARD_BYTES, _HOLD_BYTES, _JOIN_BYTES, _ANSWERS_PER_TURN
cdef double _DISCARD_S, _LINGER_S, _LINGER_ALL_S, _LINGER_CROWDED_S


cdef class Connection(Stream):
    cdef ServerState _state
    cdef Http1 _wire
    cdef ResponseEncoder _response
    cdef Answering _exchange
    cdef object _transport, _changed
    cdef int _phase
    cdef bint _head_is_sent, _awaits_continue, _is_due, _is_pumping, _is_reading, _is_retired
    cdef list _held
    cdef Py_ssize_t _discarded, _held_bytes, _unsent_seen
    cdef double _linger_until, _unsent_until
    cdef readonly double idle_since

    cpdef connection_made(self, object transport)
    @cython.locals(left=double, exchange=Answering)
    cpdef data_received(self, object data)
    @cython.locals(exchange=Answering)
    cpdef bint eof_received(self) except -1
    @cython.locals(exchange=Answering)
    cpdef connection_lost(self, object exc)
    cpdef pause_writing(self)
    cpdef resume_writing(self)
    cdef _wake(self)
    @cython.locals(answered=Py_ssize_t)
    cdef _pump(self)
    cdef _pump_later(self)
    cpdef _pump_now(self)
    cdef _take(self, object event)
    @cython.locals(opened=Answering)
    cdef _take_head(self, RequestHead head)
    cdef _start_with_body(self, Answering opened)
    @cython.locals(exchange=Answering)
    cdef _take_body(self, BodyData event)
    cdef _discard(self, BodyData event)
    cdef _next_request(self)
    cdef _refuse(self, object violation)
    @cython.locals(refusal=list, size=Py_ssize_t)
    cdef _answer_violation(self, object violation)
    @cython.locals(exchange=Answering)
    cdef _cut_exchange(self, int status, Py_ssize_t size)
    cdef _await_request(self)
    @cython.locals(unread=Py_ssize_t, is_awaited=bint, holds_back=bint)
    cdef _watch_body(self)
    @cython.locals(is_full=bint)
    cdef _watch_reading(self, Py_ssize_t unread)
    cdef _resume_reading(self)
    cpdef pass_deadline(self)
    @cython.locals(parts=list, sent=Py_ssize_t)
    cpdef Py_ssize_t send_body(self, bytes body, bint last) except -1
    @cython.locals(parts=list)
    cpdef _release(self)
    cdef _notice_loss(self)
    cdef Py_ssize_t _look_at_unsent(self) except -1
    cdef _begin_write(self)
    cdef _end_write(self)
    cdef _write(self, list parts, Py_ssize_t size)
    cdef _write_one(self, bytes data)
    cdef _write_all(self, list parts)
    @cython.locals(exchange=Answering)
    cpdef bytes switch(self, object fields)
    cpdef send_bytes(self, list parts)
    cdef _hold_bytes(self, list parts)
    @cython.locals(wait_s=double, exchange=Answering)
    cpdef expect(self)
    @cython.locals(wire=Http1)
    cdef bint _must_close(self, bint last) except -1
    cdef _end_response(self)
    cdef bint _has_no_request(self) except -1
    cpdef bint close_if_idle(self) except -1
    cpdef cut(self)
    cpdef object change(self)
    cdef _close_after_response(self)
    cdef _linger(self)
    cdef _close(self)


cpdef object as_address(object name)
