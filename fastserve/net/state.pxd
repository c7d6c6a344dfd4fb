from fastserve.net.deadlines cimport Deadlines


cdef class ServerState:
    cdef public object loop
    cdef readonly object timeouts, limits, new_wire, open_exchange, log_refusal, observe_refusal
    cdef public Deadlines deadlines
    cdef public bint keeps_connections, is_draining, is_crowded
    cdef public double idle_s
    cdef readonly set connections
    cdef public Py_ssize_t coming
    cdef list _space_waiters

    cpdef bint has_space(self) except -1
    cpdef object wait_no_connections(self)
    cpdef when_space(self, object callback)
    cpdef add(self, object connection)
    cpdef forget_coming(self)
    cpdef remove(self, object connection)
    cdef _tell_of_space(self)
