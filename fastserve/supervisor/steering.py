"""Which worker a new connection goes to: a program for the kernel, attached to an SO_REUSEPORT group (Linux).

The kernel runs the program for each new connection and takes what it returns as the index of a socket, in the order in
which the sockets of the group began to listen. The program is classic BPF, which needs no privilege, and it may be
replaced at any time; it is whenever a slot becomes ready or stops being so.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Mapping, Sequence

# Of linux/filter.h, linux/bpf_common.h and asm-generic/socket.h; Python has no names for them.
_SO_ATTACH_REUSEPORT_CBPF = 51
_SO_DETACH_REUSEPORT_BPF = 68
_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_MODULO = 0x94  # BPF_ALU | BPF_MOD | BPF_K
_JUMP_IF_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K
_ANCILLARY = 0xFFFFF000  # SKF_AD_OFF
_CPU = _ANCILLARY + 36  # SKF_AD_CPU: the CPU on which the packet is handled
_RANDOM = _ANCILLARY + 56  # SKF_AD_RANDOM

Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false, operand (struct sock_filter)."""


def random_program(ready: Sequence[int]) -> list[Instruction]:
    """Return a program that takes any of these indexes, of which there is at least one."""
    return [(_LOAD, 0, 0, _RANDOM), (_MODULO, 0, 0, len(ready)), *_table(dict(enumerate(ready[:-1]))), _give(ready[-1])]


def cpu_program(ready: Sequence[int], index_by_cpu: Mapping[int, int]) -> list[Instruction]:
    """Return a program that takes the index of the CPU where the connection arrives, or any if there is none ready."""
    local = {cpu: index for cpu, index in index_by_cpu.items() if index in ready}
    return [(_LOAD, 0, 0, _CPU), *_table(local), *random_program(ready)]


def _table(results: Mapping[int, int]) -> list[Instruction]:
    """Return what gives the result for the number that was loaded, and goes on when there is none for it."""
    return [step for number, index in results.items() for step in ((_JUMP_IF_EQUAL, 0, 1, number), _give(index))]


def _give(index: int) -> Instruction:
    return (_RETURN, 0, 0, index)


def attach(sock: socket.socket, program: Sequence[Instruction]) -> None:
    """Attach a program to the group that a listening socket is in, in place of the one it has.

    Raises:
        OSError: the kernel does not know this, or refuses the program.
    """
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    descriptor = struct.pack("HL", len(program), ctypes.addressof(buffer))  # struct sock_fprog
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, descriptor)


def detach(sock: socket.socket) -> None:
    """Leave the choice to the kernel again.

    Raises:
        OSError: no program is attached.
    """
    sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_REUSEPORT_BPF, 0)
