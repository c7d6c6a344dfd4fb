"""How many workers fit this process, and on which CPUs: affinity, control group quota and memory (Linux).

The host's CPU count says nothing in a container. What counts is, in this order, the CPUs that the scheduler allows, the
quota of the control group (version 1 or 2, its ancestors included) and the memory.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from fastserve.errors import SettingsError
from fastserve.settings import ProcessSettings, parse_cpus

WORKER_MEMORY_BYTES = 128 * 1024 * 1024
"""Memory for one worker, as far as `--workers auto` is concerned: what a small FastAPI application takes."""

_V1_UNLIMITED = 2**60  # version 1 says "no limit" with a number around 2**63


@dataclass(frozen=True, slots=True)
class CpuPlan:
    """workers: how many to start. reason: what decided their number, for people.

    cpus: the CPUs for the workers of slot 0, 1 and so on; empty when they are not to be pinned. wraps: whether further
    slots begin again with the first CPU, or are not pinned.
    """

    workers: int
    reason: str
    cpus: tuple[int, ...] = ()
    wraps: bool = False

    def cpu(self, slot: int) -> int | None:
        """Return the CPU for the worker of a slot, None when it is not to be pinned."""
        if self.cpus and (self.wraps or slot < len(self.cpus)):
            return self.cpus[slot % len(self.cpus)]
        return None


def pin(cpu: int) -> None:
    """Run this thread, and those that it starts, on a CPU, where the system has that."""
    if hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):  # It may have gone away; any other one is as good.
            os.sched_setaffinity(0, {cpu})


@contextlib.contextmanager
def placed(settings: ProcessSettings) -> Iterator[None]:
    """Run this thread where `--affinity` has a single worker, and afterwards where it ran before.

    Raises:
        SettingsError: see plan_workers.
    """
    cpu = plan_workers(replace(settings, workers=1)).cpu(0)
    before = _allowed_cpus()
    if cpu is not None:
        pin(cpu)
    try:
        yield
    finally:
        if cpu is not None and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, before)


def plan_workers(settings: ProcessSettings, *, root: Path = Path("/")) -> CpuPlan:
    """Return how many workers to start, and where to pin them.

    root: where /proc and /sys are, for tests.

    Raises:
        SettingsError: `--affinity` names CPUs that this process may not use.
    """
    cpus = _allowed_cpus()
    quota = _cpu_quota(root)
    if settings.workers == "auto":
        workers, reason = _fitting_workers(len(cpus), quota, _memory_bytes(root))
    else:
        workers, reason = settings.workers, "as asked"
    if settings.affinity == "auto":
        # With a quota below the CPUs, pinning would stop a worker while another CPU still has time left.
        may_pin = (quota is None or quota >= len(cpus)) and 1 < workers <= len(cpus)
        return CpuPlan(workers, reason, tuple(_spread(cpus, root)) if may_pin else ())
    if settings.affinity == "off":
        return CpuPlan(workers, reason)
    chosen = parse_cpus(settings.affinity)
    if not set(chosen) <= set(cpus):
        missing = ", ".join(str(cpu) for cpu in sorted(set(chosen) - set(cpus)))
        raise SettingsError(f"this process may not use CPU {missing}", "--affinity")
    return CpuPlan(workers, reason, tuple(chosen), wraps=True)


def _spread(cpus: Sequence[int], root: Path) -> list[int]:
    """Return the CPUs in the order to use them in: one of each physical core first, from the NUMA nodes in turn."""
    folder = root / "sys/devices/system"
    nodes = {cpu: number for number, path in enumerate(_nodes(folder)) for cpu in parse_cpus(_read(path / "cpulist"))}
    taken: dict[str, int] = {}  # how many CPUs of a core, or cores of a node, come before
    places = {}
    for cpu in cpus:
        core = _read(folder / f"cpu/cpu{cpu}/topology/thread_siblings_list") or str(cpu)
        node = nodes.get(cpu, 0)
        thread = taken.get(core, 0)
        taken[core] = thread + 1
        in_node = taken.get(f"{node}/{thread}", 0)
        taken[f"{node}/{thread}"] = in_node + 1
        places[cpu] = (thread, in_node, node)
    return sorted(cpus, key=lambda cpu: places[cpu])


def _nodes(folder: Path) -> list[Path]:
    return sorted((folder / "node").glob("node[0-9]*"), key=lambda path: int(path.name.removeprefix("node")))


def _fitting_workers(cpus: int, quota: float | None, memory: int) -> tuple[int, str]:
    workers, reason = cpus, f"{cpus} CPU{'s' if cpus != 1 else ''} allowed"
    if quota is not None and int(quota) < workers:
        workers, reason = max(int(quota), 1), f"a quota of {quota:g} CPUs"
    most = memory // WORKER_MEMORY_BYTES
    if most < workers:
        workers, reason = max(most, 1), f"{memory // 2**20} MiB of memory"
    return workers, reason


def _allowed_cpus() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _cpu_quota(root: Path) -> float | None:
    """Return the least CPU quota that applies to this process, in CPUs, or None when there is none."""
    quotas = []
    for folder in _group_folders(root, "cpu"):
        numbers = (_read(folder / "cpu.max") or _read_v1_quota(folder)).split()
        if len(numbers) == 2 and numbers[0].isdigit() and int(numbers[1]) > 0:
            quotas.append(int(numbers[0]) / int(numbers[1]))
    return min(quotas, default=None)


def _read_v1_quota(folder: Path) -> str:
    return f"{_read(folder / 'cpu.cfs_quota_us')} {_read(folder / 'cpu.cfs_period_us')}"


def _memory_bytes(root: Path) -> int:
    """Return the memory that this process may use."""
    limits = [psutil.virtual_memory().total]
    for folder in _group_folders(root, "memory"):
        limit = _read(folder / "memory.max") or _read(folder / "memory.limit_in_bytes")
        if limit.isdigit() and int(limit) < _V1_UNLIMITED:
            limits.append(int(limit))
    return min(limits)


def _group_folders(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of the control groups that this process is in for a controller, up to the topmost."""
    top = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base = top  # version 2
        elif controller in controllers.split(","):
            base = top / controllers
        else:
            continue
        group = base / path.lstrip("/")
        while True:
            yield group
            if group == base or base not in group.parents:
                break
            group = group.parent


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
