# cython: language_level=3
"""Noticing that modules and classes are changed, at no cost for each request: the interpreter tells (PEP 699's watchers).

Has no Python form: without it, and before Python 3.12, what matters is looked up each time.
"""

from cpython.dict cimport PyDict_CheckExact
from cpython.type cimport PyType_Check

cdef extern from *:
    """
    static unsigned long long fastserve_changes = 0;

    #if PY_VERSION_HEX >= 0x030C0000 && !defined(PYPY_VERSION) && !defined(Py_GIL_DISABLED)
    static int fastserve_dict_changed(PyDict_WatchEvent event, PyObject *dict, PyObject *key, PyObject *value) {
        fastserve_changes++;
        return 0;
    }

    static int fastserve_type_changed(PyTypeObject *type) {
        fastserve_changes++;
        return 0;
    }

    static int fastserve_new_dict_watcher(void) { return PyDict_AddWatcher(fastserve_dict_changed); }
    static int fastserve_new_type_watcher(void) { return PyType_AddWatcher(fastserve_type_changed); }
    static int fastserve_watch_dict(int watcher, PyObject *dict) { return PyDict_Watch(watcher, dict); }
    static int fastserve_watch_type(int watcher, PyObject *type) { return PyType_Watch(watcher, type); }
    static int fastserve_tells(PyObject *type) { return ((PyTypeObject *)type)->tp_version_tag != 0; }
    #else
    static int fastserve_none(void) {
        PyErr_SetString(PyExc_RuntimeError, "this Python has no watchers");
        return -1;
    }
    static int fastserve_new_dict_watcher(void) { return fastserve_none(); }
    static int fastserve_new_type_watcher(void) { return fastserve_none(); }
    static int fastserve_watch_dict(int watcher, PyObject *dict) { return fastserve_none(); }
    static int fastserve_watch_type(int watcher, PyObject *type) { return fastserve_none(); }
    static int fastserve_tells(PyObject *type) { return 0; }
    #endif
    """
    unsigned long long fastserve_changes
    int fastserve_new_dict_watcher() except -1
    int fastserve_new_type_watcher() except -1
    int fastserve_watch_dict(int watcher, object dict) except -1
    int fastserve_watch_type(int watcher, object type) except -1
    bint fastserve_tells(object type)


cdef int _dict_watcher = -1
cdef int _type_watcher = -1


def _start():
    """Have the interpreter tell of changes; raises RuntimeError where it cannot."""
    global _dict_watcher, _type_watcher
    if _dict_watcher < 0:
        _dict_watcher = fastserve_new_dict_watcher()
    if _type_watcher < 0:
        _type_watcher = fastserve_new_type_watcher()


cdef class Watched:
    """Remembers what a look at attributes of modules and classes has found, until one of these is changed.

    look: tells whether the attributes are as they should be. holders: the modules and classes.

    Raises:
        RuntimeError: the interpreter does not tell of changes of these.
    """

    cdef object _look
    cdef list _classes
    cdef unsigned long long _seen
    cdef bint _has_seen

    def __init__(self, look, holders):
        _start()
        self._look = look
        self._classes = []
        self._has_seen = False
        for holder in holders:
            if PyType_Check(holder):
                fastserve_watch_type(_type_watcher, holder)
                self._classes.append(holder)
            else:
                names = vars(holder)
                if not PyDict_CheckExact(names):
                    raise RuntimeError("the attributes are not in a dict")
                fastserve_watch_dict(_dict_watcher, names)

    def holds(self):
        """Tell whether the attributes are as they should be."""
        if self._has_seen and self._seen == fastserve_changes:
            return True
        return self._look_again()

    cdef bint _look_again(self) except -1:
        cdef unsigned long long changes = fastserve_changes
        self._has_seen = False
        if not self._look():
            return False
        # A class tells of its next change only if what it looked up is cached. After very many changes nothing is.
        for each in self._classes:
            if not fastserve_tells(each):
                return True
        self._seen = changes
        self._has_seen = True
        return True
