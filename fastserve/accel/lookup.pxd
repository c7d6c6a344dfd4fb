cimport cython


cdef class Lookup:
    cdef dict _by_method

    @cython.locals(compiled=tuple, branch=tuple, params=dict)
    cpdef tuple find(self, object method, object path)
