cimport cython

from fastserve.wire.events cimport RequestHead

cdef bytes _NAME_OCTETS
cdef bytes _MEANT_FIRST
cdef bytes _TARGET_OCTETS
cdef bytes _VALUE_OCTETS
cdef unsigned char _SP, _HTAB, _CR, _LF, _COLON, _SLASH, _QUERY
cdef Py_ssize_t _VERSION_BYTES, _MOST_DIGITS, _NAMES_KEPT, _LONGEST_KEPT
cdef dict _METHODS
cdef str _GET
cdef bytes _GET_BYTES
cdef frozenset _MEANT
cdef list _names


cdef class HeadReader:
    cdef Py_ssize_t _line_bytes, _max_bytes, _max_fields
    cdef bytes _host, _length, _coding, _connection
    cdef readonly Py_ssize_t end

    @cython.locals(size=Py_ssize_t, end=Py_ssize_t, begin=Py_ssize_t, path=bytes, query=bytes, head=RequestHead,
                   data="const unsigned char *", names="const unsigned char *", targets="const unsigned char *")
    cpdef RequestHead read_line(self, bytes buffer, Py_ssize_t at)

    @cython.locals(size=Py_ssize_t, end=Py_ssize_t, begin=Py_ssize_t, last=Py_ssize_t, count=Py_ssize_t, number="unsigned int", first="unsigned char",
                   fields=list, name=bytes, value=bytes,
                   data="const unsigned char *", names="const unsigned char *", values="const unsigned char *")
    cpdef bint read_fields(self, RequestHead head, bytes buffer, Py_ssize_t at) except -1
    cdef bint _note(self, bytes name, bytes value) except -1
    cdef bint _understand(self, RequestHead head) except -1


cdef bint _read_connection(RequestHead head, bytes option) except -1

@cython.locals(place="unsigned int", size=Py_ssize_t, index=Py_ssize_t, known=bytes, name=bytes,
               data="const unsigned char *", names="const unsigned char *", kept="const unsigned char *")
cdef bytes _field_name(bytes buffer, Py_ssize_t begin, Py_ssize_t end, unsigned int number)
