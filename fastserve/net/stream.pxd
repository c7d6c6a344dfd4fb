from fastserve.net.deadlines cimport Watched


cdef class Answering:
    cdef public Py_ssize_t unread_bytes

    cpdef start(self)
    cpdef receive_body(self, bytes data, bint last)
    cpdef peer_closed(self)
    cpdef connection_lost(self)


cdef class Stream(Watched):
    cdef public object client, server, scheme
    cdef public dict tls
    cdef public bint is_writable

    cpdef start_response(self, object status, object fields)
    cpdef send_body(self, bytes body, bint last)
    cpdef object wait_writable(self)
    cpdef ask_for_body(self)
    cpdef resume_reading(self)
    cpdef abort(self)
