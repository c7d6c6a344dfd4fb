cimport cython

cdef object _PREFLIGHT
cdef object _BODY_LIMIT


cdef class Marks:
    cdef object _handlers, _router, _endpoint, _route
    cdef dict _marks

    cpdef put(self, object scope, dict params)
    cpdef put_with_stacks(self, object scope, dict params)


cpdef list_headers(object scope)


cdef class Routed:
    cdef readonly object holder
    cdef readonly Marks marks
    cdef object _planned_app, _calling, _planned_call, _overridable
    cdef public bint handles_errors, is_trivial

    cpdef depend_on(self, object dependant, object call, object overrides)
    cpdef bint is_current(self) except -1


cdef class Dispatcher:
    cdef public object app, outermost, find, is_unpatched, has_arguments_unpatched, first
    cdef public object guard, serve_with_cors, failed, failed_inside, cors
    cdef public list routers
    cdef public bint guards_outside, is_bare, sets_root_path

    @cython.locals(routes=list)
    cpdef bint is_stale(self) except -1
    @cython.locals(found=tuple, endpoint=Routed)
    cpdef object answer(self, object scope, object receive, object send)
    @cython.locals(found=tuple, endpoint=Routed)
    cpdef object answer_inside(self, object scope, object receive, object send)
    @cython.locals(found=tuple)
    cdef object _answer_in_middleware(self, object scope, object receive, object send)
    @cython.locals(routed=Routed)
    cdef tuple _found(self, object scope)


cdef class Entrance:
    cdef public Dispatcher plan
    cdef public object other

    @cython.locals(plan=Dispatcher)
    cpdef object answer(self, object scope, object receive, object send)
