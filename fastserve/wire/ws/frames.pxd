cimport cython

cdef int _LENGTH_16, _TEXT, _BINARY
cdef list _TEXT_HEADS, _BINARY_HEADS
cdef bint _IS_COMPILED


cpdef bytes unmask(bytes data, Py_ssize_t begin, Py_ssize_t size, bytes key)

@cython.locals(masked="const unsigned char *", mask="const unsigned char *", target="unsigned char *", unmasked=bytes, index=Py_ssize_t,
               first="unsigned char", second="unsigned char", third="unsigned char", fourth="unsigned char")
cpdef bytes _unmask_each(bytes data, Py_ssize_t begin, Py_ssize_t size, bytes key)
cpdef bytes frame_head(int first, Py_ssize_t size)
cpdef bytes encode_pong(bytes data)
