from fastserve.net.stream cimport Answering
from fastserve.wire.events cimport RequestHead


cdef class Answered(Answering):
    cdef readonly RequestHead head
    cdef public object scope, fields
    cdef public int status
    cdef public bint is_cut, is_refused
    cdef public unsigned long long sent_bytes
    cdef public double started_at

    cpdef cut_short(self, int status, Py_ssize_t size)
