"""How many workers, and where: for machines and containers whose /proc and /sys are folders of the test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import psutil
import pytest

from fastserve.errors import SettingsError
from fastserve.settings import ProcessSettings, parse_cpus
from fastserve.supervisor.cpus import WORKER_MEMORY_BYTES, CpuPlan, placed, plan_workers

MIB = 2**20
Machine = Callable[..., Path]

# Paths in the control group file system, of version 2 and of the two controllers of version 1.
V2 = "sys/fs/cgroup"
V1_CPU = "sys/fs/cgroup/cpu,cpuacct"
V1_MEMORY = "sys/fs/cgroup/memory"
V1_UNLIMITED = "9223372036854771712"


def plan_auto(root: Path) -> CpuPlan:
    """Return the plan for as many workers as fit this machine."""
    return plan_workers(ProcessSettings(workers="auto"), root=root)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Make a machine of these CPUs, memory and files, and return the folder that stands for `/`."""

    def make(files: Mapping[str, str] | None = None, *, cpus: int = 8, memory: int = 64 * 1024 * MIB) -> Path:
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cpus)), raising=False)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=memory))
        for name, content in (files or {}).items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content + "\n")
        return tmp_path

    return make


def v2(group: str, **limits: str) -> dict[str, str]:
    """Return the files of a process in this group of version 2; limits by file name, with _ for the dot."""
    files = {"proc/self/cgroup": f"0::{group}"}
    return files | {f"{V2}{group.rstrip('/')}/{name.replace('_', '.')}": value for name, value in limits.items()}


def v1(group: str, quota: str, period: str = "100000") -> dict[str, str]:
    """Return the files of a process in this group of version 1."""
    return {
        "proc/self/cgroup": f"12:cpuset:/\n4:memory:{group}\n3:cpu,cpuacct:{group}\n1:name=systemd:{group}",
        f"{V1_CPU}{group.rstrip('/')}/cpu.cfs_quota_us": quota,
        f"{V1_CPU}{group.rstrip('/')}/cpu.cfs_period_us": period,
    }


QUOTAS = {
    "no control groups": ({}, 8),
    "v2, no limit": (v2("/a", cpu_max="max 100000"), 8),
    "v2, two CPUs": (v2("/a", cpu_max="200000 100000"), 2),
    "v2, another period": (v2("/a", cpu_max="150000 50000"), 3),
    "v2, a fraction is rounded down": (v2("/a", cpu_max="290000 100000"), 2),
    "v2, less than one CPU is one worker": (v2("/a", cpu_max="25000 100000"), 1),
    "v2, more than there are": (v2("/a", cpu_max="1600000 100000"), 8),
    "v2, seen from inside the container": (v2("/", cpu_max="300000 100000"), 3),
    "v2, no file": (v2("/a"), 8),
    "v2, an empty file": (v2("/a", cpu_max=""), 8),
    "v2, not numbers": (v2("/a", cpu_max="some words"), 8),
    "v2, no period": (v2("/a", cpu_max="200000"), 8),
    "v2, a period of 0": (v2("/a", cpu_max="200000 0"), 8),
    "v2, the group above": (v2("/a/b", cpu_max="max 100000") | {f"{V2}/a/cpu.max": "300000 100000"}, 3),
    "v2, the topmost group": (v2("/a/b/c") | {f"{V2}/cpu.max": "400000 100000"}, 4),
    "v2, the least one, of the group": (
        v2("/a/b", cpu_max="200000 100000") | {f"{V2}/a/cpu.max": "600000 100000"},
        2,
    ),
    "v2, the least one, above": (v2("/a/b", cpu_max="600000 100000") | {f"{V2}/a/cpu.max": "200000 100000"}, 2),
    "v2, a sibling does not count": (v2("/a/b") | {f"{V2}/a/c/cpu.max": "100000 100000"}, 8),
    "v2, a group outside of the namespace": (v2("/../other") | {f"{V2}/cpu.max": "500000 100000"}, 5),
    "v1, no limit": (v1("/docker/x", "-1"), 8),
    "v1, two CPUs": (v1("/docker/x", "200000"), 2),
    "v1, a fraction is rounded down": (v1("/docker/x", "350000"), 3),
    "v1, another period": (v1("/docker/x", "200000", "50000"), 4),
    "v1, the group above": (
        v1("/docker/x", "-1")
        | {f"{V1_CPU}/docker/cpu.cfs_quota_us": "300000", f"{V1_CPU}/docker/cpu.cfs_period_us": "100000"},
        3,
    ),
    "v1, a container sees its own group as the topmost": (
        {"proc/self/cgroup": "3:cpu,cpuacct:/docker/x"}
        | {f"{V1_CPU}/cpu.cfs_quota_us": "200000", f"{V1_CPU}/cpu.cfs_period_us": "100000"},
        2,
    ),
    "v1, the controller alone": (
        {"proc/self/cgroup": "2:cpu:/x"}
        | {f"{V2}/cpu/x/cpu.cfs_quota_us": "200000", f"{V2}/cpu/x/cpu.cfs_period_us": "100000"},
        2,
    ),
    "v1 and v2 side by side": (
        v1("/x", "300000") | {"proc/self/cgroup": "3:cpu,cpuacct:/x\n0::/x", f"{V2}/unified/x/cpu.max": "max 100000"},
        3,
    ),
}


@pytest.mark.parametrize(("files", "workers"), QUOTAS.values(), ids=QUOTAS.keys())
def test_the_cpu_quota_limits_the_number_of_workers(machine: Machine, files: Mapping[str, str], workers: int) -> None:
    assert plan_auto(machine(files)).workers == workers


MEMORY = {
    "v2, no limit": (v2("/a", memory_max="max"), 8),
    "v2, three workers": (v2("/a", memory_max=str(3 * WORKER_MEMORY_BYTES)), 3),
    "v2, not quite three workers": (v2("/a", memory_max=str(3 * WORKER_MEMORY_BYTES - 1)), 2),
    "v2, less than one worker is one worker": (v2("/a", memory_max="1000000"), 1),
    "v2, nothing at all": (v2("/a", memory_max="0"), 1),
    "v2, the group above": (
        v2("/a/b", memory_max="max") | {f"{V2}/a/memory.max": str(2 * WORKER_MEMORY_BYTES)},
        2,
    ),
    "v1, no limit": (v1("/x", "-1") | {f"{V1_MEMORY}/x/memory.limit_in_bytes": V1_UNLIMITED}, 8),
    "v1, three workers": (v1("/x", "-1") | {f"{V1_MEMORY}/x/memory.limit_in_bytes": str(3 * 128 * MIB)}, 3),
    "less than the quota": (v2("/a", cpu_max="600000 100000", memory_max=str(5 * 128 * MIB)), 5),
    "more than the quota": (v2("/a", cpu_max="200000 100000", memory_max=str(5 * 128 * MIB)), 2),
}


@pytest.mark.parametrize(("files", "workers"), MEMORY.values(), ids=MEMORY.keys())
def test_the_memory_of_the_group_limits_the_number_of_workers(
    machine: Machine, files: Mapping[str, str], workers: int
) -> None:
    assert plan_auto(machine(files)).workers == workers


def test_the_memory_of_the_machine_limits_the_number_of_workers(machine: Machine) -> None:
    assert plan_auto(machine(memory=512 * MIB)).workers == 4


@pytest.mark.parametrize(
    ("files", "memory", "reason"),
    [
        pytest.param({}, 64 * 1024 * MIB, "8 CPUs allowed", id="affinity"),
        pytest.param(v2("/a", cpu_max="250000 100000"), 64 * 1024 * MIB, "a quota of 2.5 CPUs", id="quota"),
        pytest.param({}, 300 * MIB, "300 MiB of memory", id="memory"),
        pytest.param(v2("/a", cpu_max="400000 100000"), 300 * MIB, "300 MiB of memory", id="memory below the quota"),
        pytest.param(v2("/a", cpu_max="850000 100000"), 64 * 1024 * MIB, "8 CPUs allowed", id="quota above the CPUs"),
    ],
)
def test_the_reason_is_what_was_least(machine: Machine, files: Mapping[str, str], memory: int, reason: str) -> None:
    assert plan_auto(machine(files, memory=memory)).reason == reason


@pytest.mark.parametrize("wanted", [1, 2, 50])
def test_a_number_that_is_asked_for_is_not_limited(machine: Machine, wanted: int) -> None:
    root = machine(v2("/a", cpu_max="100000 100000", memory_max="1000000"), memory=MIB)
    plan = plan_workers(ProcessSettings(workers=wanted), root=root)
    assert (plan.workers, plan.reason) == (wanted, "as asked")


# Pinning.

PINNED = {
    "as many workers as CPUs": (4, {0, 1, 2, 3}, None, True),
    "fewer workers than CPUs": (2, {0, 1, 2, 3}, None, True),
    "CPUs that do not start at 0": (2, {5, 3}, None, True),
    "as many as fit": ("auto", {2, 4, 6}, None, True),
    "a quota of all CPUs": (2, {0, 1}, "200000 100000", True),
    "a quota above the CPUs": (2, {0, 1}, "210000 100000", True),
    "more workers than CPUs": (3, {0, 1}, None, False),
    "one worker": (1, {0, 1}, None, False),
    "one CPU": ("auto", {3}, None, False),
    "a quota below the CPUs": (2, {0, 1, 2, 3}, "200000 100000", False),
    "a quota just below the CPUs": (2, {0, 1}, "199000 100000", False),
    "a quota that decides the number": ("auto", {0, 1, 2, 3}, "350000 100000", False),
}


@pytest.mark.parametrize(("wanted", "cpus", "quota", "is_pinned"), PINNED.values(), ids=PINNED.keys())
def test_workers_are_pinned_when_each_has_a_whole_cpu(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    wanted: int | Literal["auto"],
    cpus: set[int],
    quota: str | None,
    is_pinned: bool,
) -> None:
    root = machine(v2("/a", cpu_max=quota) if quota else {})
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cpus, raising=False)
    plan = plan_workers(ProcessSettings(workers=wanted), root=root)
    assert plan.cpus == (tuple(sorted(cpus)) if is_pinned else ())
    assert plan.cpu(0) == (min(cpus) if is_pinned else None)


def test_slots_beyond_the_cpus_are_not_pinned(machine: Machine) -> None:
    plan = plan_workers(ProcessSettings(workers=2), root=machine(cpus=3))
    assert [plan.cpu(slot) for slot in range(5)] == [0, 1, 2, None, None]


def test_no_worker_is_pinned_when_that_is_off(machine: Machine) -> None:
    plan = plan_workers(ProcessSettings(workers=2, affinity="off"), root=machine())
    assert [plan.cpu(slot) for slot in range(2)] == [None, None]


@pytest.mark.parametrize(
    ("affinity", "workers", "pinned"),
    [
        pytest.param("1", 1, [1, 1, 1], id="one CPU for one worker"),
        pytest.param("2,0-1", 3, [2, 0, 1], id="in the order that was asked for"),
        pytest.param("4,5", 5, [4, 5, 4, 5, 4], id="more workers than CPUs"),
        pytest.param("0,0,3", 3, [0, 0, 3], id="one CPU twice"),
    ],
)
def test_workers_are_pinned_to_the_cpus_of_a_list_in_turn(
    machine: Machine, affinity: str, workers: int, pinned: list[int]
) -> None:
    root = machine(v2("/a", cpu_max="100000 100000"))  # a list is what a person wants: a quota is not in its way
    plan = plan_workers(ProcessSettings(workers=workers, affinity=affinity), root=root)
    assert plan.workers == workers
    assert [plan.cpu(slot) for slot in range(len(pinned))] == pinned


def test_a_list_with_cpus_that_this_process_may_not_use_is_refused(machine: Machine) -> None:
    with pytest.raises(SettingsError, match=r"^--affinity: this process may not use CPU 4, 9$"):
        plan_workers(ProcessSettings(affinity="9,0,4"), root=machine(cpus=4))


# The order of the CPUs. The machine: CPUs by core, then cores by node.


def topology(cores: list[str], nodes: list[str] | None = None) -> dict[str, str]:
    """Return the files of a machine with these cores and NUMA nodes, each a list of CPUs as Linux writes it."""
    files = {}
    for core in cores:
        for cpu in parse_cpus(core):
            files[f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"] = core
    for number, cpus in enumerate(nodes or []):
        files[f"sys/devices/system/node/node{number}/cpulist"] = cpus
    return files


ORDERS = {
    "nothing is known": ({}, (0, 1, 2, 3, 4, 5, 6, 7)),
    "a thread for each core": (topology([str(cpu) for cpu in range(8)]), (0, 1, 2, 3, 4, 5, 6, 7)),
    "threads side by side": (topology(["0-1", "2-3", "4-5", "6-7"]), (0, 2, 4, 6, 1, 3, 5, 7)),
    "threads far apart": (topology(["0,4", "1,5", "2,6", "3,7"]), (0, 1, 2, 3, 4, 5, 6, 7)),
    "two nodes": (topology([str(cpu) for cpu in range(8)], ["0-3", "4-7"]), (0, 4, 1, 5, 2, 6, 3, 7)),
    "two nodes in turn": (topology([], ["0,2,4,6", "1,3,5,7"]), (0, 1, 2, 3, 4, 5, 6, 7)),
    "nodes and threads": (
        topology(["0,4", "1,5", "2,6", "3,7"], ["0-1,4-5", "2-3,6-7"]),
        (0, 2, 1, 3, 4, 6, 5, 7),
    ),
    "nodes of different sizes": (topology([], ["0-5", "6-7"]), (0, 6, 1, 7, 2, 3, 4, 5)),
    "a node without CPUs": (topology([], ["0-3", "", "4-7"]), (0, 4, 1, 5, 2, 6, 3, 7)),
    "more than ten nodes": (
        topology([], ["", "", "0-1", *[""] * 7, "2-7"]),
        (0, 2, 1, 3, 4, 5, 6, 7),
    ),
}


@pytest.mark.parametrize(("files", "order"), ORDERS.values(), ids=ORDERS.keys())
def test_each_core_is_used_before_its_other_thread_and_nodes_in_turn(
    machine: Machine, files: Mapping[str, str], order: tuple[int, ...]
) -> None:
    assert plan_auto(machine(files)).cpus == order


def test_only_allowed_cpus_are_in_the_order(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    root = machine(topology(["0-1", "2-3", "4-5", "6-7"]))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 2, 3, 7}, raising=False)
    assert plan_auto(root).cpus == (1, 2, 7, 3)


# The machine that the tests run on.


@pytest.fixture
def one_cpu() -> Iterator[int]:
    """Allow this process one CPU only, and return which."""
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system does not tell and take the CPUs of a process")
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    yield max(before)
    os.sched_setaffinity(0, before)


def test_only_the_cpus_that_this_process_may_run_on_count(one_cpu: int, tmp_path: Path) -> None:
    plan = plan_auto(tmp_path)
    assert (plan.workers, plan.cpus, plan.reason) == (1, (), "1 CPU allowed")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not pin threads")
def test_a_single_worker_runs_on_the_cpu_that_is_asked_for_as_long_as_it_serves() -> None:
    before = os.sched_getaffinity(0)
    cpu = max(before)
    with placed(ProcessSettings(affinity=f"{cpu},{min(before)}", workers="auto")):
        assert os.sched_getaffinity(0) == {cpu}
    assert os.sched_getaffinity(0) == before
    with placed(ProcessSettings(workers="auto")):
        assert os.sched_getaffinity(0) == before


def test_a_system_without_affinity_counts_all_cpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=64 * 1024 * MIB))
    assert plan_auto(tmp_path).workers == 6


def test_this_machine_gets_at_least_one_worker_and_at_most_one_for_each_cpu() -> None:
    plan = plan_workers(ProcessSettings(workers="auto"))
    assert 1 <= plan.workers <= (os.cpu_count() or 1)
    assert set(plan.cpus) <= set(range(os.cpu_count() or 1))
