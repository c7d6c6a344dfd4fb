cimport cython

from fastserve.accel.dispatching cimport Marks

cdef object _NO_DEFAULT, _UNDEFINED, _scan
cdef bytes _CONTENT_TYPE, _OPENING
cdef int _MOST_TYPES


cdef class Source:
    cdef public object scope, receive, send
    cdef object _request, _json
    cdef dict _query, _unmarked
    cdef bytes _content
    cdef Marks _marks

    cpdef begin(self, object scope, object receive, object send, Marks marks, dict unmarked)
    cpdef bint has_request(self)
    cpdef object marked_scope(self)
    cpdef dict path(self)
    cpdef object request(self)
    cpdef keep_content(self, bytes content)
    cpdef keep_json(self, object found)
    cpdef dict query(self)
    cpdef object header(self, bytes name)


@cython.locals(text=str, found=dict, part=str)
cdef dict _parse_query(bytes query)


cdef class Solving(Source):
    cdef public object overrides, body, background, solved_response
    cdef public dict cache

    cpdef use(self, object request)
    cpdef object tasks(self)
    cpdef object response(self)


cdef class Parameter:
    cdef readonly object alias, default, field, name, validate
    cdef readonly bytes key
    cdef readonly tuple loc

    cpdef take(self, object value, dict values, list errors)
    cdef _take_missing(self, dict values, list errors)


cdef class Taking:
    cdef list _parameters

    cpdef take(self, Source source, dict values, list errors)


cdef class PathTaking(Taking):
    @cython.locals(each=Parameter, path=dict)
    cpdef take(self, Source source, dict values, list errors)


cdef class QueryTaking(Taking):
    @cython.locals(each=Parameter, query=dict)
    cpdef take(self, Source source, dict values, list errors)


cdef class HeaderTaking(Taking):
    @cython.locals(each=Parameter)
    cpdef take(self, Source source, dict values, list errors)


cdef class FrameworkTaking(Taking):
    cdef object _fields, _received, _take

    cpdef take(self, Source source, dict values, list errors)


cdef class BodyField:
    cdef readonly object field, name, validate

    cpdef take(self, object body, dict values, list errors)


cdef class Signature:
    cdef list _takings, _scopes
    cdef BodyField _body
    cdef dict _special
    cdef bint _has_special

    @cython.locals(values=dict, errors=list)
    cpdef tuple take_all(self, Solving state)
    cpdef take(self, Solving state, dict values, list errors)
    @cython.locals(each=Taking)
    cpdef take_parameters(self, Solving state, dict values, list errors)
    cpdef take_special(self, Solving state, dict values)


cdef class JsonContent:
    cdef bint _is_strict
    cdef object _unreadable

    @cython.locals(content=bytes)
    cpdef bint take(self, Solving state) except -1
    cpdef put(self, bytes content, Solving state)


@cython.locals(text=str)
cpdef object loads(bytes content)
cpdef list located(object error, tuple loc)
