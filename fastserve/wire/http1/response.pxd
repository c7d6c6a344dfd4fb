cimport cython

from fastserve.wire.events cimport RequestHead

cdef int _NONE, _LENGTH, _CHUNKED, _CLOSE
cdef Py_ssize_t _LENGTHS_READY
cdef list _STATUS_LINES, _LENGTH_LINES


cdef class ResponseDefaults:
    cdef object _date
    cdef list _fields, _lines
    cdef dict _roles
    cdef readonly bytes block
    cdef readonly dict known

    cpdef refresh(self, object now)
    cpdef bytes block_without(self, object names)
    cpdef object role(self, bytes name)
    cpdef remember(self, tuple field, object meaning)


cdef class ResponseEncoder:
    cdef ResponseDefaults _defaults
    cdef RequestHead _head
    cdef list _held
    cdef object _declared, _replaced
    cdef Py_ssize_t _left
    cdef bint _asks_to_close
    cdef int _framing, _status
    cdef public bint keep_alive

    cpdef begin(self, RequestHead head)
    @cython.locals(lines=list, known=dict)
    cpdef start(self, object status, object fields)
    cdef _encode_field(self, object name, object value)
    cdef _declare(self, object length)
    cdef bytes _merge_connection(self, object value)
    @cython.locals(parts=list)
    cpdef list encode_body(self, bytes body, bint last)
    @cython.locals(framing_line=bytes, end=bytes)
    cdef list _encode_head(self, list lines, Py_ssize_t size, bint last)
    cdef bytes _choose_framing(self, Py_ssize_t size, bint last)
    cdef bytes _length_without_body(self, Py_ssize_t size, bint last)
    cdef bint _is_http10(self) except -1
    cpdef object declare_length(self, object length)
    cpdef tuple encode_around(self, Py_ssize_t size, bint last)
    cpdef bint has_body(self) except -1
    cpdef bytes encode_continue(self)
    cpdef bytes encode_switch(self, object fields)
    cpdef list encode_refusal(self, object violation, RequestHead head)


cdef bytes _status_line(object status)
cdef object _parse_length(object value)
cdef bytes _length_line(Py_ssize_t length)
cdef Py_ssize_t _left_after(Py_ssize_t left, Py_ssize_t size, bint last) except -1
cdef bytes _field_line(bytes name, bytes value)
