cimport cython

from fastserve.wire.ws.frames cimport frame_head

cdef int _TEXT, _BINARY, _RSV1
cdef Py_ssize_t _JOIN_BYTES, _LEAST_COMPRESSED


cdef class Writer:
    cdef object _deflater

    @cython.locals(first=int, head=bytes)
    cpdef list encode_message(self, bytes payload, bint is_text)
