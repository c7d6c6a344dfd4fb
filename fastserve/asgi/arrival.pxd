cdef class Arrival:
    cdef object _loop, _callback, _context, _why
    cdef public bint _asyncio_future_blocking
    cdef bint _is_yielded, _is_cancelled

    cpdef result(self)
    cpdef wake(self, bint now)
