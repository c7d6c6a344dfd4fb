cimport cython

cdef double _TICK_S


cdef class Watched:
    cdef public double deadline
    cdef public long long bucket

    cpdef pass_deadline(self)


cdef class Deadlines:
    cdef readonly double now
    cdef dict _buckets
    cdef object _next_bucket

    @cython.locals(at=double)
    cpdef set(self, Watched watched, double seconds)
    cpdef forget(self, Watched watched)
    @cython.locals(watched=Watched)
    cpdef tick(self, double now)
    cdef _tell(self, Watched watched)
    cdef _move(self, Watched watched)
