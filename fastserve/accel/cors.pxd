cimport cython

cdef bytes _ORIGIN
cdef tuple _VARY


cdef class Cors:
    cdef object _is_unpatched, _middleware

    cpdef bint passes(self, object scope) except -1
    cpdef object origin(self, object scope)
    @cython.locals(fields=list)
    cpdef mark(self, object message, object origin, object scope)
    cpdef list marked(self, list fields, object origin)
    @cython.locals(fields=dict, found=list)
    cdef list _origin_fields(self, object origin)
    cdef _middleware_marks(self, object message, object origin, object scope)


cdef class CorsAnswer:
    cdef Cors _cors
    cdef object _origin, _scope
    cdef readonly object _send
    cdef public bint is_started

    cpdef start(self, object message)
    cdef bint respond(self, object status, list fields, bytes body) except -1
