cimport cython

from fastserve.net.connection cimport Connection
from fastserve.net.deadlines cimport Watched
from fastserve.net.state cimport ServerState

cdef int _HANDSHAKE, _OPEN, _REFUSED
cdef Py_ssize_t _SLICE_BYTES, _RECORD_BYTES, _JOIN_BYTES


cdef class TlsTransport(Watched):
    cdef ServerState _state
    cdef Connection _protocol
    cdef object _incoming, _outgoing, _tls, _lower
    cdef public object client, server
    cdef readonly double idle_since
    cdef double _handshake_s
    cdef int _phase
    cdef bint _has_begun, _is_ended, _is_shut, _is_closing, _is_draining, _cuts_heads

    cpdef connection_made(self, object transport)
    @cython.locals(at=Py_ssize_t)
    cpdef data_received(self, bytes data)
    cpdef bint eof_received(self) except -1
    @cython.locals(protocol=Connection)
    cpdef connection_lost(self, object exc)
    cpdef pause_writing(self)
    cpdef resume_writing(self)
    cdef _shake_hands(self)
    @cython.locals(protocol=Connection)
    cdef _open(self)
    cdef _refuse(self, bytes data)
    cpdef pass_deadline(self)
    cpdef bint close_if_idle(self) except -1
    cpdef cut(self)
    cdef _take(self, bytes data)
    cdef _read(self)
    cdef object _read_record(self)
    cdef _end(self)
    cdef _fail(self, object error)
    cpdef write(self, object data)
    cpdef writelines(self, object list_of_data)
    cdef _encrypt(self, object data)
    cdef _encrypt_rest(self, object data, Py_ssize_t at)
    cdef _flush(self)
    cpdef write_eof(self)
    cpdef close(self)
    cpdef abort(self)
    cdef _say_goodbye(self)
