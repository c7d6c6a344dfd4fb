cimport cython

from fastserve.asgi.answered cimport Answered


@cython.freelist(64)
cdef class Arrival:
    cdef object _loop, _callback, _context, _why, _woken
    cdef public bint _asyncio_future_blocking
    cdef bint _is_cancelled

    cpdef begin(self, object loop, object woken)
    cpdef result(self)
    cpdef wake(self, bint now)


cdef class Receiver(Answered):
    cdef object _loop, _woken
    cdef list _arrivals

    cpdef object take_message(self)
    cdef _forget_cancelled(self)
    @cython.locals(arrivals=list, arrival=Arrival)
    cdef wake(self, bint now)
