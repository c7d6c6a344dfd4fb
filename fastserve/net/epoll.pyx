"""The native transport of Linux: accepted sockets live in an epoll instance of our own, which is one reader of the loop.

One wake-up of the event loop serves every connection that is ready, with recv(2), protocol, send(2) in C: no handle, no
task and no queue in between. To protocols it is what the loop's own transports are (see net.transports).

  turn -> epoll_wait -> each ready transport: what is queued goes out, one recv, data_received     (level-triggered)
  write in a turn -> held until the others had theirs, or for 1 ms -> sent, one connection after the other
  write -> send at once -> what the kernel does not take is queued -> EPOLLOUT -> sendmsg of the queue
  send_file -> queued between what is written before and after -> sendfile, as often as it takes
  close -> what is queued goes out -> lost;  abort, errors -> lost;  lost -> out of epoll, connection_lost in a turn of its own

System calls are made with the GIL held. None of them blocks; letting another thread in between each two would cost more
than they do, and up to a switch interval (5 ms) to get the GIL back.
"""

import os
import socket
from asyncio.trsock import TransportSocket
from weakref import WeakSet

cimport cython
from cpython.bytes cimport (
    PyBytes_AS_STRING,
    PyBytes_CheckExact,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from cpython.exc cimport PyErr_SetFromErrno
from cpython.list cimport PyList_CheckExact
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.errno cimport EAGAIN, ECONNRESET, EINTR, EIO, errno
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset, strerror
from posix.types cimport off_t
from posix.uio cimport iovec
from posix.unistd cimport close as close_fd


cdef extern from *:
    """
    #include <arpa/inet.h>
    #include <fcntl.h>
    #include <netinet/in.h>
    #include <netinet/tcp.h>
    #include <stddef.h>
    #include <string.h>
    #include <sys/epoll.h>
    #include <sys/sendfile.h>
    #include <sys/socket.h>
    #include <sys/un.h>
    #include <time.h>

    typedef union {
        struct sockaddr any;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
        struct sockaddr_storage storage;
    } fastserve_name;
    """
    ctypedef union epoll_data_t:
        uint64_t u64
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    const uint32_t EPOLLIN
    const uint32_t EPOLLOUT
    const uint32_t EPOLLERR
    const uint32_t EPOLLHUP
    const int EPOLL_CLOEXEC
    const int EPOLL_CTL_ADD
    const int EPOLL_CTL_DEL
    const int EPOLL_CTL_MOD
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event *event)
    int epoll_wait(int epfd, epoll_event *events, int maxevents, int timeout)

    ctypedef unsigned int socklen_t
    struct sockaddr:
        uint16_t sa_family
    struct in_addr:
        pass
    struct in6_addr:
        pass
    struct sockaddr_in:
        uint16_t sin_port
        in_addr sin_addr
    struct sockaddr_in6:
        uint16_t sin6_port
        uint32_t sin6_flowinfo
        in6_addr sin6_addr
        uint32_t sin6_scope_id
    struct sockaddr_un:
        char *sun_path
    ctypedef union fastserve_name:
        sockaddr any
        sockaddr_in in4
        sockaddr_in6 in6
        sockaddr_un un
    struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
    const int AF_INET
    const int AF_INET6
    const int AF_UNIX
    const int INET6_ADDRSTRLEN
    const int IPPROTO_TCP
    const int F_DUPFD_CLOEXEC
    const int MSG_MORE
    const int MSG_NOSIGNAL
    const int MSG_PEEK
    const int SHUT_WR
    const int SOCK_CLOEXEC
    const int SOCK_NONBLOCK
    const int SOL_SOCKET
    const int SO_ERROR
    const int SO_SNDBUF
    const int TCP_NODELAY
    const size_t SUN_PATH_AT "offsetof(struct sockaddr_un, sun_path)"
    int accept4(int fd, sockaddr *name, socklen_t *length, int flags)
    int getsockname(int fd, sockaddr *name, socklen_t *length)
    int getsockopt(int fd, int level, int option, void *value, socklen_t *length)
    int setsockopt(int fd, int level, int option, const void *value, socklen_t length)
    int fcntl(int fd, int command, ...)
    struct timespec:
        int64_t tv_sec
        int64_t tv_nsec
    const int CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec *now)
    int shutdown(int fd, int how)
    ssize_t sendfile(int fd, int file, off_t *offset, size_t count)
    ssize_t recv(int fd, void *data, size_t size, int flags)
    ssize_t send(int fd, const void *data, size_t size, int flags)
    ssize_t sendmsg(int fd, const msghdr *message, int flags)
    const char *inet_ntop(int family, const void *address, char *text, socklen_t size)
    uint16_t ntohs(uint16_t number)
    uint32_t ntohl(uint32_t number)
    size_t strnlen(const char *text, size_t size)


cdef extern from "Python.h":
    object PyUnicode_DecodeFSDefaultAndSize(const char *text, Py_ssize_t size)


cdef enum:
    # How many connections are served before the rest of the event loop gets its turn. More would not be cheaper.
    MOST_EVENTS = 64
    # Of one recv(2), and so of one connection in a turn. With 64 KiB, uploads cost a fifth more.
    RECEIVE_BYTES = 256 * 1024
    # Up to here, copying parts together is cheaper than having the kernel gather them.
    JOIN_BYTES = 4 * 1024
    # What is held in a turn, in all; and how long what was held first waits for what comes after it.
    HELD_BYTES = 64 * 1024
    HELD_NS = 1_000_000
    # Of one sendfile(2): others wait while the kernel copies, and reads what is not in memory.
    SEND_FILE_BYTES = 1024 * 1024
    # What the kernel buffers of a file for a Unix socket, unless net.core.wmem_max is smaller. By itself this does not grow,
    # unlike that of TCP, and a file would go in steps so small that most of the time went into waiting for each.
    UNIX_FILE_BYTES = 1024 * 1024
    # How many queued parts one sendmsg(2) takes. The kernel's limit is 1024.
    MOST_PARTS = 64
    # The marks that asyncio starts with.
    HIGH_BYTES = 64 * 1024
    LOW_BYTES = 16 * 1024


cdef struct Held:
    # What one connection has to send: so many bytes of what is held, from a place on.
    int fd
    uint32_t generation
    Py_ssize_t start
    Py_ssize_t size


cdef int64_t _now_ns() noexcept:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec * 1_000_000_000 + now.tv_nsec


cdef object _os_error(int code):
    """Return the exception for an errno, in the class that Python has for it."""
    return OSError(code, strerror(code).decode())


cdef object _address(fastserve_name *name, socklen_t length):
    """Return an address as the socket module has it, or None for one that is neither IP nor Unix."""
    cdef char text[64]
    cdef Py_ssize_t size
    if name.any.sa_family == AF_INET:
        inet_ntop(AF_INET, &name.in4.sin_addr, text, sizeof(text))
        return text.decode("ascii"), ntohs(name.in4.sin_port)
    if name.any.sa_family == AF_INET6:
        inet_ntop(AF_INET6, &name.in6.sin6_addr, text, sizeof(text))
        flow = ntohl(name.in6.sin6_flowinfo)
        return text.decode("ascii"), ntohs(name.in6.sin6_port), flow, name.in6.sin6_scope_id
    if name.any.sa_family != AF_UNIX:
        return None
    if length <= SUN_PATH_AT:
        return ""  # It has no name (unix(7)), as nearly every client.
    size = length - SUN_PATH_AT
    if name.un.sun_path[0] == 0:
        return PyBytes_FromStringAndSize(name.un.sun_path, size)  # a name in the abstract namespace
    return PyUnicode_DecodeFSDefaultAndSize(name.un.sun_path, strnlen(name.un.sun_path, size))


cdef int _gather(list parts, Py_ssize_t first, Py_ssize_t offset, iovec *vector) noexcept:
    """Fill a vector of MOST_PARTS with parts from the first on, which begins at an offset, and return how many it has.

    A part of a file ends it.
    """
    cdef Py_ssize_t index
    cdef int count = 0
    for index in range(first, min(len(parts), first + MOST_PARTS)):
        part = parts[index]
        if not PyBytes_CheckExact(part):
            break
        vector[count].iov_base = PyBytes_AS_STRING(part) + offset
        vector[count].iov_len = PyBytes_GET_SIZE(part) - offset
        offset = 0
        count += 1
    return count


cdef list _as_bytes(object parts):
    """Return a list in which all parts are bytes, and none is empty. A bytearray may be changed by its owner: a copy."""
    return [part if PyBytes_CheckExact(part) else bytes(memoryview(part)) for part in parts if len(part)]


cdef Py_ssize_t _join(list parts, char *place) noexcept:
    """Put parts, which are bytes, one after the other, and return their size."""
    cdef Py_ssize_t size = 0
    for part in parts:
        memcpy(place + size, PyBytes_AS_STRING(part), PyBytes_GET_SIZE(part))
        size += PyBytes_GET_SIZE(part)
    return size


cdef Py_ssize_t _joinable_bytes(object parts) except -2:
    """Return the size of parts that are a list of bytes and nothing else; -1 for others."""
    cdef Py_ssize_t size = 0
    if not PyList_CheckExact(parts):
        return -1
    for part in <list>parts:
        if not PyBytes_CheckExact(part):
            return -1
        size += PyBytes_GET_SIZE(part)
    return size


@cython.final
cdef class FilePart:
    """A part of a file that is to be sent, with a descriptor of its own."""

    cdef int _fd
    cdef off_t _offset
    cdef Py_ssize_t _left

    def __cinit__(self, int fd, off_t offset, Py_ssize_t count):
        self._offset = offset
        self._left = count
        self._fd = fcntl(fd, F_DUPFD_CLOEXEC, 0)
        if self._fd < 0:
            PyErr_SetFromErrno(OSError)

    def __dealloc__(self):
        if self._fd >= 0:
            close_fd(self._fd)


@cython.final
cdef class Poller:
    """Gives accepted sockets their transports, in one event loop (see net.transports.Transports)."""

    cdef object _loop
    cdef object _new_protocol
    cdef int _fd
    cdef char *_buffer  # what recv() fills; used between two calls of Python only
    cdef char *_held_buffer  # what is joined for send(), and held for it
    cdef Held _held[MOST_EVENTS]
    cdef int _held_count
    cdef Py_ssize_t _held_bytes
    cdef int64_t _held_until_ns
    cdef bint _holds  # It is in a turn.
    cdef list _transports  # by descriptor; None where there is none. They are ours until they are lost.
    cdef uint32_t _generation
    cdef object __weakref__

    def __cinit__(self):
        self._fd = -1
        self._buffer = <char *>PyMem_Malloc(RECEIVE_BYTES)
        self._held_buffer = <char *>PyMem_Malloc(HELD_BYTES)
        if self._buffer is NULL or self._held_buffer is NULL:
            raise MemoryError

    def __init__(self, loop, new_protocol):
        if self._fd >= 0:
            raise RuntimeError("it is initialised already")
        self._loop = loop
        self._new_protocol = new_protocol
        self._transports = []
        self._fd = epoll_create1(EPOLL_CLOEXEC)
        if self._fd < 0:
            PyErr_SetFromErrno(OSError)
        loop.add_reader(self._fd, self._turn)
        _pollers.add(self)

    def __dealloc__(self):
        if self._fd >= 0:
            close_fd(self._fd)
        PyMem_Free(self._buffer)
        PyMem_Free(self._held_buffer)

    def accept(self, listening):
        """Accept one connection and tell whether there was one. Its protocol has its transport when this returns.

        Raises:
            OSError: see accept(2).
        """
        cdef fastserve_name name
        cdef socklen_t length = sizeof(name)
        cdef int yes = 1
        cdef int listening_fd = listening.fileno()
        cdef int fd
        if self._fd < 0:
            raise RuntimeError("the poller is closed")
        fd = accept4(listening_fd, &name.any, &length, SOCK_NONBLOCK | SOCK_CLOEXEC)
        if fd < 0:
            if errno == EAGAIN or errno == EINTR:
                return False
            PyErr_SetFromErrno(OSError)
        if name.any.sa_family == AF_INET or name.any.sa_family == AF_INET6:
            # Most have it from the listening socket, but asking costs as much as setting.
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes))
        cdef Transport transport = Transport.__new__(Transport)
        transport._fd = fd
        transport._poller = self
        transport._peername = _address(&name, length)
        self._put(transport)
        try:
            protocol = self._new_protocol()
        except BaseException:
            transport._lose(None)
            raise
        transport._begin(protocol)
        return True

    async def wait_attached(self):
        """Wait until every accepted connection has its transport, which it has from the beginning."""

    def close(self):
        """Abort what is open and let go of the event loop."""
        cdef Transport transport
        if self._fd < 0:
            return
        for each in list(self._transports):
            if each is not None:
                transport = each
                transport._lose(None)
        if not self._loop.is_closed():
            self._loop.remove_reader(self._fd)
        close_fd(self._fd)
        self._fd = -1
        self._transports = []

    cdef int _put(self, Transport transport) except -1:
        """Keep a transport. Its generation tells it from others that have had the same descriptor."""
        cdef Py_ssize_t missing = transport._fd + 1 - len(self._transports)
        if missing > 0:
            self._transports += [None] * missing
        self._transports[transport._fd] = transport
        self._generation += 1
        transport._generation = self._generation
        return 0

    def _turn(self):
        """Serve the connections that are ready. Those that are not reached come first in the next turn (epoll_wait(2))."""
        cdef epoll_event events[MOST_EVENTS]
        cdef Transport transport
        cdef uint64_t key
        cdef Py_ssize_t fd
        cdef int index
        cdef int count = epoll_wait(self._fd, events, MOST_EVENTS, 0)
        self._holds = True
        try:
            for index in range(count):
                key = events[index].data.u64
                fd = <uint32_t>key
                if fd >= len(self._transports):
                    break  # closed by one of them
                transport = self._transports[fd]
                # It may have been lost since epoll_wait(), and another one may have its descriptor.
                if transport is not None and transport._generation == key >> 32:
                    transport._take(events[index].events)
        finally:
            self._holds = False
            self._send_held()

    # What is sent in a turn is held, and leaves together. A send() runs much of the kernel, on a loopback device the whole way
    # to the receiver, and takes the place of Python in the processor's caches.

    cdef char *_hold(self, Transport transport, Py_ssize_t size) except? NULL:
        """Return where to put so many bytes, JOIN_BYTES at most, to have them sent with the others; NULL to send them now."""
        cdef Held *held
        cdef int64_t now_ns
        if not self._holds:
            return NULL
        now_ns = _now_ns()
        if self._held_count and (
            now_ns > self._held_until_ns
            or self._held_bytes + size > HELD_BYTES
            or self._held_count == MOST_EVENTS
            # It can only be added to what was held last.
            or (transport._held_bytes and self._held[self._held_count - 1].fd != transport._fd)
        ):
            self._send_held()
            # Protocols that were told to pause may have sent something to others, which is held now.
            if self._held_count or transport._is_lost or transport._queued_bytes:
                return NULL
        if not self._held_count:
            self._held_until_ns = now_ns + HELD_NS
        if not transport._held_bytes:
            held = &self._held[self._held_count]
            held.fd = transport._fd
            held.generation = transport._generation
            held.start = self._held_bytes
            held.size = 0
            self._held_count += 1
        self._held[self._held_count - 1].size += size
        transport._held_bytes += size
        self._held_bytes += size
        return self._held_buffer + self._held_bytes - size

    cdef int _send_held(self) except -1:
        """Send what is held. Protocols are told of what comes of it afterwards: they may want to send more."""
        cdef Transport transport
        cdef Held *held
        cdef list unsent = None
        cdef int index
        cdef int count = self._held_count
        self._held_count = 0
        self._held_bytes = 0
        for index in range(count):
            held = &self._held[index]
            transport = self._transports[held.fd]
            if transport is not None and transport._generation == held.generation:
                if transport._send_held(self._held_buffer + held.start, held.size):
                    if unsent is None:
                        unsent = []
                    unsent.append(transport)
        if unsent is not None:
            for transport in unsent:
                transport._watch()
            for transport in unsent:
                transport._end_held()
        return 0


_pollers = WeakSet()


def _send_before_fork():
    """Send what is held: a child that ends by an exception would send it again."""
    cdef Poller poller
    for each in list(_pollers):
        poller = each
        poller._send_held()


os.register_at_fork(before=_send_before_fork)


@cython.final
@cython.freelist(256)
cdef class Transport:
    """One connection: what asyncio.Transport is for a stream socket, and nothing more."""

    cdef Poller _poller
    cdef object _protocol
    cdef object _data_received  # of the protocol
    cdef object _peername
    cdef object _sockname
    cdef object _socket  # once someone has asked for it
    cdef Py_ssize_t _held_bytes  # which the poller is going to send; 0 when something is queued
    cdef list _queue  # bytes and parts of files that are to be sent; None until something has to wait
    cdef Py_ssize_t _first  # of the queue: what is before it is sent
    cdef Py_ssize_t _offset  # in the first one
    cdef Py_ssize_t _queued_bytes
    cdef Py_ssize_t _high_bytes
    cdef Py_ssize_t _low_bytes
    cdef uint32_t _generation
    cdef uint32_t _watched  # the events that epoll waits for
    cdef int _fd
    cdef int _held_errno  # of the send that failed
    cdef bint _is_owned  # the descriptor, by the socket object
    cdef bint _is_watched  # it is in the epoll instance
    cdef bint _is_paused  # pause_reading()
    cdef bint _is_full  # pause_writing() was called
    cdef bint _is_ended  # the peer has sent its last byte
    cdef bint _is_shut  # write_eof()
    cdef bint _is_closing
    cdef bint _is_lost  # connection_lost() is called, or about to be
    cdef object __weakref__

    def __cinit__(self):
        self._fd = -1
        self._high_bytes = HIGH_BYTES
        self._low_bytes = LOW_BYTES

    def __init__(self):
        raise TypeError("a Poller makes transports")

    def __dealloc__(self):
        # Only of one that the end of the event loop has left behind. A socket object closes itself.
        if self._fd >= 0 and not self._is_owned:
            close_fd(self._fd)

    def __repr__(self):
        state = "lost" if self._is_lost else "closing" if self._is_closing else "open"
        return f"<Transport fd={self._fd} {state} unsent={self._held_bytes + self._queued_bytes}>"

    cdef int _begin(self, object protocol) except -1:
        """Take the protocol and tell it. What has come with the connection is received in the next turn."""
        self._protocol = protocol
        try:
            self._data_received = protocol.data_received
            protocol.connection_made(self)
        except (KeyboardInterrupt, SystemExit):
            self._lose(None)
            raise
        except BaseException as error:
            return self._fail("Fatal error: protocol.connection_made() call failed.", error)
        return self._watch()

    # Events.

    cdef inline bint _reads(self) noexcept:
        return not (self._is_paused or self._is_ended or self._is_closing)

    cdef int _take(self, uint32_t events) except -1:
        """Act on the events of a turn."""
        if events & EPOLLOUT and self._queued_bytes:
            self._flush()
        if self._is_lost:
            return 0
        if self._reads():
            if events & ~EPOLLOUT:
                self._receive(events)
        elif events & (EPOLLERR | EPOLLHUP):
            self._hear_hangup()
        elif events & EPOLLIN:
            self._watch()  # Only now: often reading goes on before anything comes.
        return 0

    cdef int _receive(self, uint32_t events) except -1:
        """Receive once. What else there is waits until the others have had their turn."""
        cdef ssize_t size = recv(self._fd, self._poller._buffer, RECEIVE_BYTES, 0)
        if size < 0:
            if errno != EAGAIN and errno != EINTR:
                return self._lose(_os_error(errno))
            return self._hear_hangup() if events & (EPOLLERR | EPOLLHUP) else 0
        if size == 0:
            return self._receive_eof()
        data = PyBytes_FromStringAndSize(self._poller._buffer, size)
        try:
            self._data_received(data)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            return self._fail("Fatal error: protocol.data_received() call failed.", error)
        return 0

    cdef int _receive_eof(self) except -1:
        self._is_ended = True
        try:
            keeps = self._protocol.eof_received()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            return self._fail("Fatal error: protocol.eof_received() call failed.", error)
        if not keeps:
            self.close()
        return self._watch()  # no longer for reading: EOF stays readable

    cdef int _hear_hangup(self) except -1:
        """Act on EPOLLERR or EPOLLHUP, which come whether they are waited for or not, while nothing is read."""
        cdef int error = 0
        cdef socklen_t length = sizeof(error)
        cdef char byte
        getsockopt(self._fd, SOL_SOCKET, SO_ERROR, &error, &length)
        if not error and not self._is_closing and not self._queued_bytes:
            if self._is_shut or (not self._is_ended and recv(self._fd, &byte, 1, MSG_PEEK) > 0):
                # Both sides have sent their last byte; or there is something to read, when that goes on. Nothing else
                # will happen until then.
                return self._unwatch()
        return self._lose(_os_error(error or ECONNRESET))

    cdef int _watch(self) except -1:
        """Have epoll wait for what is wanted now."""
        cdef epoll_event event
        if self._is_lost:
            return 0
        event.events = (EPOLLIN if self._reads() else 0) | (EPOLLOUT if self._queued_bytes else 0)
        if event.events == self._watched:
            return 0
        event.data.u64 = <uint64_t>self._generation << 32 | <uint64_t>self._fd
        if epoll_ctl(self._poller._fd, EPOLL_CTL_MOD if self._is_watched else EPOLL_CTL_ADD, self._fd, &event) < 0:
            return self._lose(_os_error(errno))
        self._is_watched = True
        self._watched = event.events
        return 0

    cdef int _unwatch(self) except -1:
        # Closing the descriptor is not enough: it may be open in a child that was forked (epoll(7), question 6).
        if self._is_watched:
            epoll_ctl(self._poller._fd, EPOLL_CTL_DEL, self._fd, NULL)
            self._is_watched = False
            self._watched = 0
        return 0

    # Reading.

    def is_reading(self):
        """Tell whether data is received."""
        return not self._is_paused and not self._is_closing

    def pause_reading(self):
        """Receive nothing until reading is resumed."""
        if not self._is_closing:
            self._is_paused = True

    def resume_reading(self):
        """Receive again, in a turn to come."""
        if self._is_paused and not self._is_closing:
            self._is_paused = False
            self._watch()

    # Writing.

    def write(self, data):
        """Send bytes, as far as the kernel takes them: at the end of the turn, now where there is none or they are many."""
        cdef Py_ssize_t size
        cdef Py_ssize_t sent
        cdef char *place
        if self._is_shut:
            raise RuntimeError("Cannot call write() after write_eof()")
        if not PyBytes_CheckExact(data):
            if not isinstance(data, (bytes, bytearray, memoryview)):
                raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
            data = bytes(data)
        size = PyBytes_GET_SIZE(data)
        if self._is_lost or not size:
            return
        place = self._hold(size)
        if place is not NULL:
            memcpy(place, PyBytes_AS_STRING(data), size)
            return
        if self._is_lost:
            return
        if self._queued_bytes:
            self._enqueue(data, 0)
        else:
            sent = self._send(PyBytes_AS_STRING(data), size)
            if sent == size or self._is_lost:
                return
            self._enqueue(data, sent)
            self._watch()
        self._pause_if_full()

    def writelines(self, list_of_data):
        """Send parts one after the other, as `write` does."""
        cdef list parts
        cdef Py_ssize_t size
        cdef Py_ssize_t sent
        cdef char *place
        if self._is_shut:
            raise RuntimeError("Cannot call writelines() after write_eof()")
        size = _joinable_bytes(list_of_data)
        parts = _as_bytes(list_of_data) if size < 0 or size > JOIN_BYTES or self._queued_bytes else list_of_data
        if self._is_lost or not parts or not size:
            return
        if size < 0:
            size = sum([PyBytes_GET_SIZE(part) for part in parts])
        place = self._hold(size)
        if place is not NULL:
            _join(parts, place)
            return
        if self._is_lost:
            return
        if not self._queued_bytes and size <= JOIN_BYTES:
            sent = self._send_joined(parts)
            if sent == size or self._is_lost:
                return
            self._enqueue(PyBytes_FromStringAndSize(self._poller._buffer + sent, size - sent), 0)
        else:
            self._queued_bytes += size
            if self._queue is None:
                self._queue = parts
                self._send_queue()
            else:
                self._queue += parts
        self._watch()
        self._pause_if_full()

    def send_file(self, bytes before, int fd, off_t offset, Py_ssize_t count, bytes after):
        """Send bytes, a part of a file and bytes. The descriptor may be closed afterwards.

        When the file turns out to be shorter, the connection is lost.

        Raises:
            OSError: the descriptor cannot be duplicated. Nothing is sent.
        """
        cdef list parts
        if self._is_shut:
            raise RuntimeError("Cannot call send_file() after write_eof()")
        if self._is_lost:
            return
        parts = [before] if before else []
        if count:
            parts.append(FilePart(fd, offset, count))
            if count > SEND_FILE_BYTES:
                self._widen()
        if after:
            parts.append(after)
        if not parts:
            return
        while self._held_bytes:
            self._poller._send_held()
        if self._is_lost:
            return
        self._queued_bytes += PyBytes_GET_SIZE(before) + count + PyBytes_GET_SIZE(after)
        if self._queue is None:
            self._queue = parts
            self._send_queue()
        else:
            self._queue += parts
        self._watch()
        self._pause_if_full()

    cdef int _widen(self) except -1:
        """Have a Unix socket take a large file in large steps."""
        cdef int size = UNIX_FILE_BYTES
        if not isinstance(self._peername, tuple):
            setsockopt(self._fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size))
        return 0

    cdef Py_ssize_t _send(self, const char *data, Py_ssize_t size) except -1:
        """Return how many bytes the kernel took; on an error 0, and the connection is lost."""
        cdef ssize_t sent = send(self._fd, data, size, MSG_NOSIGNAL)
        if sent < 0:
            if errno != EAGAIN and errno != EINTR:
                self._lose(_os_error(errno))
            return 0
        return sent

    cdef char *_hold(self, Py_ssize_t size) except? NULL:
        """Return where to put so many bytes to have them sent later; NULL to send them now, after what was held before."""
        cdef char *place = NULL
        if size <= JOIN_BYTES and not self._queued_bytes:
            place = self._poller._hold(self, size)
        while place is NULL and self._held_bytes:
            self._poller._send_held()
        return place

    cdef bint _send_held(self, const char *data, Py_ssize_t size) except -1:
        """Send what was held; what the kernel does not take is queued. Tell whether something is left to be done."""
        cdef ssize_t sent = send(self._fd, data, size, MSG_NOSIGNAL)
        self._held_bytes = 0
        if sent < 0:
            sent = 0
            if errno != EAGAIN and errno != EINTR:
                self._held_errno = errno
                return True
        if sent < size:
            self._enqueue(PyBytes_FromStringAndSize(data + sent, size - sent), 0)
        return sent < size or self._is_closing or self._is_shut

    cdef int _end_held(self) except -1:
        """Do what follows when what was held is sent: this is where Python code may run."""
        if self._held_errno:
            return self._lose(_os_error(self._held_errno))
        if self._queued_bytes or self._held_bytes or self._is_lost:
            return self._pause_if_full()
        return self._end_sending()

    cdef int _end_sending(self) except -1:
        """Do what has to be done when everything is sent."""
        if self._is_closing:
            return self._lose(None)
        if self._is_shut:
            shutdown(self._fd, SHUT_WR)
        return 0

    cdef Py_ssize_t _send_joined(self, list parts) except -1:
        """Send parts that are JOIN_BYTES at most. They stay in the buffer until it is used again."""
        return self._send(self._poller._buffer, _join(parts, self._poller._buffer))

    cdef int _enqueue(self, bytes data, Py_ssize_t offset) except -1:
        """Queue what is not sent; an offset is of the only one there is."""
        if self._queue is None:
            self._queue = [data]
            self._offset = offset
        else:
            self._queue.append(data)
        self._queued_bytes += PyBytes_GET_SIZE(data) - offset
        return 0

    cdef int _flush(self) except -1:
        """Send from the queue, and do what waits for it to be short or empty."""
        self._send_queue()
        self._resume_if_low()
        if self._is_lost:
            return 0
        if not self._queued_bytes and not self._held_bytes:
            self._end_sending()
        return self._watch()

    cdef int _send_queue(self) except -1:
        """Send from the queue, once; what goes before a part of a file together with it."""
        if PyBytes_CheckExact(self._queue[self._first]):
            self._send_parts()
            if self._is_lost or not self._queued_bytes or PyBytes_CheckExact(self._queue[self._first]):
                return 0
        return self._send_part_of_file()

    cdef int _send_part_of_file(self) except -1:
        cdef FilePart part = self._queue[self._first]
        cdef ssize_t sent = sendfile(self._fd, part._fd, &part._offset, min(part._left, SEND_FILE_BYTES))
        if sent < 0:
            return 0 if errno == EAGAIN or errno == EINTR else self._lose(_os_error(errno))
        if sent == 0:
            return self._lose(OSError(EIO, "a file became shorter while it was sent"))
        part._left -= sent
        self._queued_bytes -= sent
        if not self._queued_bytes:
            return self._clear_queue()
        if not part._left:
            self._queue[self._first] = None
            self._first += 1
        return 0

    cdef int _send_parts(self) except -1:
        """Send from the queue up to a part of a file, once."""
        cdef iovec vector[MOST_PARTS]
        cdef msghdr message
        cdef ssize_t sent
        memset(&message, 0, sizeof(message))
        message.msg_iov = vector
        message.msg_iovlen = _gather(self._queue, self._first, self._offset, vector)
        sent = sendmsg(self._fd, &message, MSG_NOSIGNAL | self._more_follows(message.msg_iovlen))
        if sent >= 0:
            self._drop_sent(sent)
        elif errno != EAGAIN and errno != EINTR:
            self._lose(_os_error(errno))
        return 0

    cdef int _more_follows(self, Py_ssize_t count) noexcept:
        """Return MSG_MORE when after so many parts there is one of a file: then both share a packet."""
        cdef Py_ssize_t next_one = self._first + count
        return MSG_MORE if next_one < len(self._queue) and not PyBytes_CheckExact(self._queue[next_one]) else 0

    cdef int _drop_sent(self, Py_ssize_t sent) except -1:
        """Take so many bytes from the front of the queue."""
        self._queued_bytes -= sent
        if not self._queued_bytes:
            self._clear_queue()
            return 0
        sent += self._offset
        while PyBytes_CheckExact(self._queue[self._first]) and sent >= PyBytes_GET_SIZE(self._queue[self._first]):
            sent -= PyBytes_GET_SIZE(self._queue[self._first])
            self._queue[self._first] = None
            self._first += 1
        self._offset = sent
        if self._first >= MOST_PARTS and self._first * 2 >= len(self._queue):
            del self._queue[: self._first]
            self._first = 0
        return 0

    cdef int _clear_queue(self) except -1:
        self._queue = None
        self._first = self._offset = self._queued_bytes = 0
        return 0

    cdef int _pause_if_full(self) except -1:
        if self._queued_bytes > self._high_bytes and not self._is_full:
            self._is_full = True
            try:
                self._protocol.pause_writing()
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:
                return self._fail("protocol.pause_writing() failed", error)
        return 0

    cdef int _resume_if_low(self) except -1:
        if self._is_full and self._queued_bytes <= self._low_bytes and not self._is_lost:
            self._is_full = False
            try:
                self._protocol.resume_writing()
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:
                return self._fail("protocol.resume_writing() failed", error)
        return 0

    def set_write_buffer_limits(self, high=None, low=None):
        """Set the marks: over `high` bytes queued the protocol is told to pause, at `low` to resume."""
        if high is None:
            high = HIGH_BYTES if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high_bytes = high
        self._low_bytes = low
        self._pause_if_full()

    def get_write_buffer_limits(self):
        """Return the marks, low and high."""
        return self._low_bytes, self._high_bytes

    def get_write_buffer_size(self):
        """Return how many bytes are held or queued, those of files included."""
        return self._held_bytes + self._queued_bytes

    def can_write_eof(self):
        """Tell that the two directions can be closed one by one."""
        return True

    def write_eof(self):
        """Send a FIN after what is queued."""
        if self._is_shut or self._is_closing:
            return
        self._is_shut = True
        if not self._held_bytes and not self._queued_bytes:
            shutdown(self._fd, SHUT_WR)  # If it fails, the connection is lost, which an event is going to tell.

    # The end.

    def is_closing(self):
        """Tell whether it is closed, or about to be."""
        return self._is_closing

    def close(self):
        """Receive nothing more, send what is held or queued, and then close."""
        if self._is_closing:
            return
        self._is_closing = True
        if not self._held_bytes and not self._queued_bytes:
            self._lose(None)

    def abort(self):
        """Close at once. What is queued is not sent."""
        self._lose(None)

    cdef int _fail(self, str message, object error) except -1:
        """Report what a callback of the protocol raised, and abort."""
        self._poller._loop.call_exception_handler(
            {"message": message, "exception": error, "transport": self, "protocol": self._protocol}
        )
        return self._lose(error)

    cdef int _lose(self, object error) except -1:
        """Stop all events, and have the protocol told in a turn of its own, once."""
        while self._held_bytes:
            self._poller._send_held()
        if self._is_lost:
            return 0
        self._is_lost = self._is_closing = True
        self._unwatch()
        self._clear_queue()
        self._poller._transports[self._fd] = None
        if self._poller._loop.is_closed():
            return self._shut_down()
        self._poller._loop.call_soon(self._tell_lost, error)
        return 0

    def _tell_lost(self, error):
        try:
            if self._protocol is not None:
                self._protocol.connection_lost(error)
        finally:
            self._shut_down()

    cdef int _shut_down(self) except -1:
        """Close the descriptor, and let go of the protocol."""
        cdef int fd = self._fd
        self._fd = -1
        self._protocol = self._data_received = None
        if self._socket is not None:
            self._socket.close()
        elif fd >= 0:
            close_fd(fd)
        return 0

    # What it is.

    def get_protocol(self):
        """Return the protocol; None when the connection is lost and the protocol has been told."""
        return self._protocol

    def set_protocol(self, protocol):
        """Have another protocol called from now on."""
        self._data_received = protocol.data_received
        self._protocol = protocol

    def get_extra_info(self, name, default=None):
        """Return the peername, the sockname or the socket, else the default."""
        if name == "peername":
            return self._peername
        if name == "sockname":
            return self._own_name()
        if name == "socket" and self._own_socket() is not None:
            return TransportSocket(self._socket)
        return default

    cdef object _own_name(self):
        cdef fastserve_name name
        cdef socklen_t length = sizeof(name)
        if self._sockname is None and self._fd >= 0 and getsockname(self._fd, &name.any, &length) == 0:
            self._sockname = _address(&name, length)
        return self._sockname

    cdef object _own_socket(self):
        if self._socket is None and self._fd >= 0:
            self._socket = socket.socket(fileno=self._fd)
            self._is_owned = True
            self._socket.setblocking(False)  # which it is, but the object does not know
        return self._socket
