cimport cython

from fastserve.net.stream cimport Stream
from fastserve.wire.events cimport RequestHead


cdef dict _ASGI


cdef class ScopeBuilder:
    cdef str _root_path
    cdef bytes _raw_root_path
    cdef dict _usual
    cdef public dict state

    @cython.locals(raw_path=bytes, path=str, scope=dict)
    cpdef dict build(self, RequestHead head, Stream stream)


cpdef str decode_path(bytes raw_path)
