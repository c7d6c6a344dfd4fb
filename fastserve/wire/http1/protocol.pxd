cimport cython

from fastserve.wire.events cimport BodyData, RequestHead
from fastserve.wire.http1.head cimport HeadReader
from fastserve.wire.http1.response cimport ResponseEncoder

cdef int _REQUEST_LINE, _FIELDS, _BODY, _CHUNKED, _COMPLETE


cdef class Http1:
    cdef object _fields_parser, _limits, _section, _chunked, _left
    cdef HeadReader _head_reader
    cdef RequestHead _head
    cdef bytes _buffer, _block
    cdef Py_ssize_t _at
    cdef list _fields
    cdef int _reading
    cdef bint _skipped_line
    cdef public bint is_complete, is_ended
    cdef readonly ResponseEncoder response

    cpdef start_next_message(self)
    cpdef bint is_idle(self) except -1
    cpdef bint is_last_request(self) except -1
    cpdef Py_ssize_t count_unread(self) except -1
    cpdef object body_bytes_left(self)
    cpdef bytes take_unread(self)
    cpdef receive_data(self, bytes data)
    cpdef receive_eof(self)
    cpdef object next_event(self)
    cpdef list encode_refusal(self, object violation)
    cpdef RequestHead known_head(self)

    @cython.locals(buffer=bytes, head=RequestHead, at=Py_ssize_t, end=Py_ssize_t)
    cdef RequestHead _read_plain_head(self, HeadReader reader)

    @cython.locals(buffer=bytes, at=Py_ssize_t, end=Py_ssize_t, limit=Py_ssize_t)
    cdef _read_request_line(self)

    @cython.locals(buffer=bytes, at=Py_ssize_t)
    cdef Py_ssize_t _skip_empty_line(self) except -1

    @cython.locals(head=RequestHead, at=Py_ssize_t, end=Py_ssize_t)
    cdef RequestHead _read_fields(self)
    cdef list _parse_fields(self, bytes block, RequestHead head)
    cdef Py_ssize_t _recall_fields(self, RequestHead head, Py_ssize_t at) except -1
    cdef _remember_fields(self, RequestHead head, Py_ssize_t at, Py_ssize_t end)
    cdef _expect_body(self, object length)
    cdef _complete(self)
    @cython.locals(buffer=bytes, at=Py_ssize_t)
    cdef BodyData _read_body(self)
    cdef BodyData _read_chunked(self)
