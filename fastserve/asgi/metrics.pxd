cimport cython

from fastserve.asgi.answered cimport Answered

cdef double _FIRST_BUCKET_US
cdef Py_ssize_t _LAST_BUCKET


cdef class Metrics:
    cdef readonly unsigned long long requests, sent_bytes
    cdef readonly list status, latency

    @cython.locals(now=double, took_us=double, bound_us=double, bucket=Py_ssize_t)
    cpdef count(self, Answered exchange)
