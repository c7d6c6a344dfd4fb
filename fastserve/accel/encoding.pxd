cimport cython

from fastserve.accel.cors cimport CorsAnswer

cdef tuple _CONTENT_TYPE
cdef int _MOST_KEPT


cdef class Encoder:
    cdef readonly int status
    cdef object _validate, _dump, _invalid
    cdef dict _dump_options, _fields
    cdef bint _is_fast

    cpdef object encode(self, object result, bint is_special, object scope)
    cpdef object validated(self, object result, object scope)
    cpdef list fields(self, Py_ssize_t length)
    @cython.locals(marking=CorsAnswer)
    cpdef bint respond(self, object send, bytes content) except -1
