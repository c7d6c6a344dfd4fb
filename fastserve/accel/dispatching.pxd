cimport cython

from fastserve.accel.cors cimport Cors
from fastserve.accel.lookup cimport Lookup

cdef object _BODY_LIMIT


cdef class Marks:
    cdef object _app, _handlers, _router, _endpoint, _route
    cdef dict _marks
    cdef public bint has_stacks

    cpdef put_all(self, object scope, dict params)
    cpdef put(self, object scope, dict params)
    cdef _put_route(self, object scope, dict params)


cpdef list_headers(object scope)


cdef class Routed:
    cdef readonly object holder
    cdef readonly Marks marks
    cdef object _planned_app, _calling, _planned_call, _overridable
    cdef public bint handles_errors, is_trivial

    cpdef depend_on(self, object dependant, object call, object overrides)
    cdef bint is_current(self) except -1


cdef class Dispatcher:
    cdef public object app, outermost, is_unpatched, is_all_unpatched, first
    cdef public object guard, serve_with_cors, failed, failed_inside
    cdef public Cors cors
    cdef public Lookup lookup
    cdef public list routers
    cdef public bint guards_outside, is_bare, sets_root_path

    @cython.locals(routes=list)
    cpdef bint is_stale(self) except -1
    @cython.locals(found=tuple, endpoint=Routed)
    cpdef object answer(self, object scope, object receive, object send)
    @cython.locals(found=tuple)
    cpdef object answer_unseen(self, object scope, object receive, object send)
    @cython.locals(found=tuple, endpoint=Routed)
    cpdef object answer_inside(self, object scope, object receive, object send)
    cdef bint _enter(self, object scope) except -1
    cdef tuple _found_outside(self, object scope)
    cdef object _serve(self, Routed endpoint, dict params, object scope, object receive, object send)
    cdef object _answer_in_middleware(self, object scope, object receive, object send)
    @cython.locals(routed=Routed)
    cdef tuple _found(self, object scope)


cdef class Entrance:
    cdef public Dispatcher dispatcher
    cdef public object other

    @cython.locals(dispatcher=Dispatcher)
    cpdef object answer(self, object scope, object receive, object send)
    @cython.locals(dispatcher=Dispatcher)
    cpdef object answer_unseen(self, object scope, object receive, object send)
    @cython.locals(dispatcher=Dispatcher)
    cdef Dispatcher _current(self, object scope)
