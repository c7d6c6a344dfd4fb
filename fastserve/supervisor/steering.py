"""Which worker a new connection goes to: a program for the kernel, attached to an SO_REUSEPORT group (Linux).

The kernel runs the program for each new connection and takes what it returns as the index of a socket, in the order in
which the sockets of the group began to listen. The program is classic BPF, which needs no privilege, and it may be
replaced at any time; it is whenever a slot becomes ready or stops being so.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections import defaultdict
from collections.abc import Mapping, Sequence

# Of linux/filter.h, linux/bpf_common.h and asm-generic/socket.h; Python has no names for them.
_SO_ATTACH_REUSEPORT_CBPF = 51
_SO_DETACH_REUSEPORT_BPF = 68
_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_MODULO = 0x94  # BPF_ALU | BPF_MOD | BPF_K
_JUMP = 0x05  # BPF_JMP | BPF_JA
_JUMP_IF_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K
_ANCILLARY = 0xFFFFF000  # SKF_AD_OFF
_CPU = _ANCILLARY + 36  # SKF_AD_CPU: the CPU on which the packet is handled
_RANDOM = _ANCILLARY + 56  # SKF_AD_RANDOM

Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false, operand (struct sock_filter)."""


def random_program(ready: Sequence[int]) -> list[Instruction]:
    """Return a program that takes any of these indexes, of which there is at least one."""
    *others, last = ready
    if not others:
        return [_give(last)]
    table = [step for number, index in enumerate(others) for step in ((_JUMP_IF_EQUAL, 0, 1, number), _give(index))]
    return [(_LOAD, 0, 0, _RANDOM), (_MODULO, 0, 0, len(ready)), *table, _give(last)]


def cpu_program(ready: Sequence[int], cpus: Mapping[int, int]) -> list[Instruction]:
    """Return a program that takes one of these indexes: any of the CPU where the connection arrives, or any at all.

    cpus: by index; there need not be one for each.
    """
    local: defaultdict[int, list[int]] = defaultdict(list)
    for index in ready:
        if index in cpus:
            local[cpus[index]].append(index)
    program = [(_LOAD, 0, 0, _CPU)]
    for cpu, indexes in local.items():
        choice = random_program(indexes)
        # A condition can only jump over 255 instructions.
        program += [(_JUMP_IF_EQUAL, 1, 0, cpu), (_JUMP, 0, 0, len(choice)), *choice]
    return [*program, *random_program(ready)]


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
