cimport cython

from fastserve.net.stream cimport Stream
from fastserve.wire.events cimport RequestHead


cdef unsigned char _F, _X


cdef class ScopeBuilder:
    cdef str _root_path
    cdef bytes _raw_root_path
    cdef dict _asgi, _extensions, _extensions_1_0, _usual
    cdef object _forwarded
    cdef frozenset _forwarded_names
    cdef public dict state

    @cython.locals(raw_path=bytes, path=str, scope=dict, extensions=dict)
    cpdef dict build(self, RequestHead head, Stream stream)


@cython.locals(field=tuple, name=bytes, first="unsigned char")
cdef bint _has_any(list fields, frozenset names) except -1
cpdef str decode_path(bytes raw_path)
