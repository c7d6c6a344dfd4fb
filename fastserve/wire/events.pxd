cdef class RequestHead:
    cdef public object method, raw_path, query, http_version, authority, content_length, protocol
    cdef public list fields
    cdef public bint keep_alive, expects_continue
    cdef readonly bint is_http10
    cpdef begin(self, object method, object raw_path, object query, object http_version, object authority)
    cpdef bint has_body(self) except -1
    cpdef tuple _key(self)


cdef class BodyData:
    cdef public object data
    cdef public bint is_last
