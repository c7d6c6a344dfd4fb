cdef object _NOTHING


cdef class Sent:
    cpdef send(self, object value)


cdef class Received:
    cdef object _source, _waiting

    cpdef send(self, object value)
