"""Programs for the kernel: run by a small interpreter, and by the kernel itself where it permits."""

from __future__ import annotations

import contextlib
import os
import socket
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest

from fastserve.supervisor.steering import Instruction, attach, cpu_program, detach, random_program

from .listening import accepted, connected, linux

MOST_INSTRUCTIONS = 4096  # BPF_MAXINSNS

# Of linux/filter.h, written down once more.
LOAD, MODULO, JUMP, RETURN = 0x20, 0x94, 0x05, 0x06
LOAD_CPU, LOAD_RANDOM = 0xFFFFF000 + 36, 0xFFFFF000 + 56


def run(program: Sequence[Instruction], *, cpu: int = 0, random: int = 0) -> int:
    """Run a program as the kernel does, and return the index that it gives."""
    loaded, at = 0, 0
    while True:
        code, if_true, if_false, operand = program[at]
        at += 1
        match code:
            case 0x20:
                loaded = {LOAD_CPU: cpu, LOAD_RANDOM: random}[operand]
            case 0x94:
                loaded %= operand
            case 0x05:
                at += operand
            case 0x15:
                at += if_true if loaded == operand else if_false
            case 0x06:
                return operand
            case _:
                raise AssertionError(f"unknown instruction {code:#x}")


def check(program: Sequence[Instruction]) -> None:
    """Check what the kernel checks before it takes a program."""
    assert 0 < len(program) <= MOST_INSTRUCTIONS
    assert program[-1][0] == RETURN
    for at, (code, if_true, if_false, operand) in enumerate(program):
        assert 0 <= if_true <= 255
        assert 0 <= if_false <= 255
        assert at + 1 + max(if_true, if_false, operand if code == JUMP else 0) < len(program) or code == RETURN
        assert code != MODULO or operand > 0


def spread(program: Sequence[Instruction], *, cpu: int = 0, count: int = 60) -> Counter[int]:
    """Return how often each index is given for the random numbers 0, 1 and so on."""
    return Counter(run(program, cpu=cpu, random=random) for random in range(count))


@pytest.mark.parametrize("ready", [[0], [3], [0, 1], [4, 2], [0, 2, 3], list(range(5)), list(range(1, 21))])
def test_a_random_program_gives_all_indexes_equally_often(ready: list[int]) -> None:
    program = random_program(ready)
    check(program)
    assert spread(program, count=60) == dict.fromkeys(ready, 60 // len(ready))


def test_large_random_numbers_are_as_good() -> None:
    program = random_program([5, 6, 7])
    assert {run(program, random=2**32 - 1 - number) for number in range(3)} == {5, 6, 7}


def test_a_cpu_program_gives_the_index_of_the_cpu() -> None:
    program = cpu_program([0, 1, 2], {0: 4, 1: 5, 2: 0})
    check(program)
    assert {cpu: spread(program, cpu=cpu) for cpu in (4, 5, 0)} == {4: {0: 60}, 5: {1: 60}, 0: {2: 60}}


@pytest.mark.parametrize(
    ("cpu", "why"), [pytest.param(1, "not ready", id="not ready"), pytest.param(7, "nobody's", id="nobody's")]
)
def test_on_other_cpus_any_index_that_is_ready_is_given(cpu: int, why: str) -> None:
    program = cpu_program([0, 2], {0: 0, 1: 1, 2: 2})
    check(program)
    assert spread(program, cpu=cpu) == {0: 30, 2: 30}, why


def test_indexes_that_share_a_cpu_share_its_connections() -> None:
    program = cpu_program([0, 1, 2, 3, 4], {0: 0, 1: 1, 2: 0, 3: 1, 4: 0})
    check(program)
    assert spread(program, cpu=0) == {0: 20, 2: 20, 4: 20}
    assert spread(program, cpu=1) == {1: 30, 3: 30}
    assert spread(program, cpu=2) == dict.fromkeys(range(5), 12)


def test_without_cpus_a_cpu_program_is_a_random_one() -> None:
    program = cpu_program([0, 1, 2], {})
    check(program)
    assert spread(program, cpu=0) == {0: 20, 1: 20, 2: 20}


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(random_program(range(1024)), id="random"),
        pytest.param(cpu_program(range(512), {index: index for index in range(512)}), id="a CPU each"),
        pytest.param(cpu_program(range(600), {index: index % 2 for index in range(600)}), id="two CPUs"),
    ],
)
def test_a_program_for_many_workers_is_one_that_the_kernel_takes(program: list[Instruction]) -> None:
    check(program)


# In the kernel.


@pytest.fixture
def group() -> Iterator[list[socket.socket]]:
    """Three sockets that listen on one port of 127.0.0.1."""
    with contextlib.ExitStack() as stack:
        sockets: list[socket.socket] = []
        for _ in range(3):
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(sockets[0].getsockname() if sockets else ("127.0.0.1", 0))
            sock.listen(128)
            sockets.append(sock)
        try:
            attach(sockets[0], random_program([0, 1, 2]))
        except OSError as error:
            pytest.skip(f"this kernel does not take programs: {error}")
        yield sockets


def counts(group: list[socket.socket], connections: int = 60) -> list[int]:
    """Connect to the group, and return how many connections each socket gets."""
    connected(group[0].getsockname()[1], connections)
    return [accepted(sock) for sock in group]


@linux
def test_the_kernel_gives_connections_to_any_that_is_ready(group: list[socket.socket]) -> None:
    attach(group[2], random_program([0, 2]))
    first, second, third = counts(group)
    assert (first + third, second) == (60, 0)
    assert min(first, third) > 5  # a chance of 1 in 10^11 that this fails


@linux
@pytest.mark.parametrize("index", [0, 1, 2])
def test_the_kernel_replaces_a_program_at_any_time(group: list[socket.socket], index: int) -> None:
    attach(group[0], random_program([index]))
    assert counts(group, 9)[index] == 9


@linux
def test_the_kernel_gives_connections_to_the_cpu_where_they_arrive(group: list[socket.socket]) -> None:
    before = os.sched_getaffinity(0)
    cpus = sorted(before)[:2]
    attach(group[0], cpu_program([0, 1, 2], dict(enumerate(cpus, start=1))))
    try:
        for index, cpu in enumerate(cpus, start=1):
            os.sched_setaffinity(0, {cpu})
            assert counts(group, 20)[index] == 20
    finally:
        os.sched_setaffinity(0, before)


@linux
def test_without_a_program_the_kernel_spreads_connections_itself(group: list[socket.socket]) -> None:
    attach(group[0], random_program([1]))
    detach(group[0])
    assert min(counts(group, 100)) > 0
    with pytest.raises(OSError, match=r"\[Errno"):
        detach(group[0])


@linux
def test_the_kernel_refuses_what_is_no_program(group: list[socket.socket]) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        attach(group[0], [(LOAD, 0, 0, LOAD_CPU)])
