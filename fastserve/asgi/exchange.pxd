cimport cython

from fastserve.asgi.answered cimport Answered
from fastserve.asgi.awaitables cimport Received
from fastserve.net.stream cimport Stream
from fastserve.wire.events cimport RequestHead

cdef object _SENT, _perf_counter
cdef int _AWAITING_START, _HEAD_HELD, _BODY, _TRAILERS, _DONE
cdef dict _EXTENSIONS


cdef class Caller:
    cdef public bint raises_disconnect

    cpdef call(self, Exchange exchange)
    cpdef peer_left(self, Exchange exchange)
    cpdef response_sent(self, Exchange exchange)


cdef class Exchange(Answered):
    cdef Stream _stream
    cdef Caller _caller
    cdef object _changed
    cdef list _body
    cdef bint _more_body, _body_is_taken, _connection_is_lost, _has_trailers
    cdef list _trailers
    cdef readonly bint peer_is_gone
    cdef int _writing

    cpdef begin(self, RequestHead head, object scope, Stream stream, Caller caller)
    cpdef bint is_done(self) except -1
    cdef _wake(self)
    cpdef object take_message(self)
    cpdef bytes take_content(self)
    cdef object _take_message_of_body(self)
    @cython.locals(body=bytes)
    cdef bytes _take_body(self)
    cpdef object wait_message(self)
    cpdef object change(self)
    cpdef respond(self, object status, object fields, bytes body)
    cdef object _hold_start(self, dict message)
    @cython.locals(last=bint)
    cdef object _send_body(self, dict message)
    cdef object _complete(self)
    cdef object _sent_part(self, object size, bint last)
    cdef object _send_extension(self, object kind, dict message)
    cdef object _send_trailers(self, dict message)
    cpdef object send_file(self, int fd, object offset, object count, bint last)
    cpdef fail(self)
    cpdef abandon(self)


@cython.locals(exchange=Exchange)
cpdef bint respond(object send, object status, object fields, bytes body) except -1
@cython.locals(exchange=Exchange)
cpdef bytes take_content(object receive)
cdef Exchange _exchange_of(object method)
cdef bytes _copy(object body)
