cimport cython

from fastserve.wire.ws.frames cimport unmask

cdef int _CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG
cdef int _FIRST_CONTROL, _FIN, _RSV1, _RSV, _OPCODE, _MASKED, _LENGTH, _LENGTH_16, _LENGTH_64
cdef Py_ssize_t _KEY_BYTES, _MOST_CONTROL_BYTES, _SMALL_BYTES, _MOST_SMALL
cdef object _decode_utf8


cdef class Reader:
    cdef unsigned long long _max_bytes, _message_bytes, _most_compressed, _compressed_bytes, _left
    cdef object _inflater
    cdef bytes _buffer, _key, _undecoded
    cdef Py_ssize_t _at
    cdef bint _is_in_frame, _is_final, _is_in_message, _is_text, _is_compressed, _drops
    cdef int _opcode
    cdef list _parts, _small

    cpdef Py_ssize_t count_unread(self) except -1
    cpdef receive_data(self, bytes data)
    cpdef drop_messages(self)
    cpdef object next_event(self)
    @cython.locals(data="const unsigned char *", at=Py_ssize_t, have=Py_ssize_t, first=int, second=int, opcode=int, size="unsigned long long")
    cdef bint _read_head(self) except -1
    cdef _check_first(self, int first, int opcode)
    cdef unsigned long long _read_long(self, Py_ssize_t at) except? 1
    cdef _begin_data(self, int first, int opcode, unsigned long long size)
    cdef object _too_big(self)
    @cython.locals(buffer=bytes, at=Py_ssize_t, left="unsigned long long", size=Py_ssize_t, part=bytes, is_end=bint)
    cdef object _read_payload(self)
    @cython.locals(room="unsigned long long", parts=list)
    cdef object _join(self, bytes part, bint is_end)
    cdef _keep(self, object part)
    cdef _gather(self)
    cdef object _joined(self, list parts)
    @cython.locals(used=Py_ssize_t)
    cdef object _decode(self, bytes part, bint is_end)
    @cython.locals(at=Py_ssize_t, size=Py_ssize_t, data=bytes)
    cdef object _read_control(self)
