cdef int _MAX_DEPTH
cdef object _INT_MIN, _INT_MAX
cdef double _FLOAT_MIN, _FLOAT_MAX

cpdef bint is_plain(object value, int depth)
cdef bint _is_plain_dict(dict items, int depth) except -1
cdef bint _is_plain_list(object items, int depth) except -1
