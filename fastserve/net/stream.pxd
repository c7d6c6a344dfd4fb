from fastserve.net.deadlines cimport Watched


cdef class Answering:
    cdef public Py_ssize_t unread_bytes

    cpdef start(self)
    cpdef receive_body(self, bytes data, bint last)
    cpdef receive_bytes(self, bytes data)
    cpdef double tick(self, double now) except -1
    cpdef drain(self)
    cpdef peer_closed(self)
    cpdef cut_short(self, int status, Py_ssize_t size)
    cpdef connection_lost(self)


cdef class Stream(Watched):
    cdef public object client, server, scheme
    cdef public dict tls
    cdef public bint is_writable, sends_files

    cpdef start_response(self, object status, object fields)
    cpdef Py_ssize_t send_body(self, bytes body, bint last) except -1
    cpdef bytes switch(self, object fields)
    cpdef send_bytes(self, list parts)
    cpdef expect(self)
    cpdef object declare_length(self, object length)
    cpdef object send_file(self, int fd, object offset, object count, bint last)
    cpdef send_early_hint(self, object links)
    cpdef bint takes_trailers(self) except -1
    cpdef send_trailers(self, object fields)
    cpdef object wait_writable(self, bint raises)
    cpdef ask_for_body(self)
    cpdef resume_reading(self)
    cpdef abort(self)
