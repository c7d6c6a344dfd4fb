cimport cython

from fastserve.asgi.answered cimport Answered
from fastserve.asgi.exchange cimport Caller, Exchange
from fastserve.asgi.scope cimport ScopeBuilder
from fastserve.net.stream cimport Answering, Stream
from fastserve.wire.events cimport RequestHead

cdef object _Task, _call


cdef class Application(Caller):
    cdef object _app, _busy, _loop, _context, _became_idle
    cdef ScopeBuilder _scopes
    cdef Py_ssize_t _concurrency
    cdef list _observers
    cdef dict _task_options
    cdef set _tasks, _cancelled
    cdef dict _calls
    cdef object _cancel_after_s
    cdef bint _starts_eagerly
    cdef readonly Py_ssize_t running
    cdef public Py_ssize_t websockets
    cdef public object open_session

    @cython.locals(exchange=Exchange)
    cpdef observe_refusal(self, RequestHead head, Stream stream, int status, Py_ssize_t size)
    cpdef Answering open_exchange(self, RequestHead head, Stream stream)
    @cython.locals(exchange=Exchange)
    cdef Exchange _new_exchange(self, RequestHead head, Stream stream)
    cpdef object start(self, object coroutine)
    cpdef ended(self)
    cpdef returned(self, Exchange exchange, object result)
    cpdef failed(self, Exchange exchange, object error)
    cpdef refresh(self)
    cpdef object wait_idle(self)
    cpdef object idle_event(self)
    cpdef cancel_all(self)
    cdef _ended(self, Exchange exchange)
    cpdef report(self, object error, Answered answered)
    cpdef bint is_cancelled(self) except -1
    cdef _end_unanswered(self, Exchange exchange)


cpdef tell(list observers, Answered answered)
cdef bint _follows_from_disconnect(object error) except -1
