"""Build and run the images of our Dockerfiles without a container engine.

`python -m tests.deploy.chroot [DOCKERFILE ...]` does what a Dockerfile says in a fresh Debian 12 with its Python 3.11,
in place of the image that FROM names. Then it starts the command as process 1 of namespaces of its own, without
capabilities, on a read-only file system, as docs/deploy/docker/compose.yaml has it; waits until the health check
succeeds; stops it while a request is on its way; and wants status 0. It takes some minutes, root, debootstrap and
iproute2. Packages come from Debian's mirror and from the index that pip uses here.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .commands import DEPLOY, PROJECT
from .dockerfiles import Instruction, Stage, assigned, stages

REQUESTS = {
    PROJECT / "Dockerfile": ("/orders", '{"item": "tea", "price": 2.5, "quantity": 4}'),
    DEPLOY / "docker" / "Dockerfile": ("/greetings", '{"name": "Ada"}'),
}
"""Dockerfiles, and a request for the application in each."""
SUITE = "bookworm"
PACKAGES = "ca-certificates,python3,python3-dev,python3-pip,python3-venv"
# The images of Python have these names, and no others of the system's.
ALIASES = {"python": "/usr/bin/python3", "pip": "/usr/bin/pip3"}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PATIENCE_S = 60.0


@dataclass(slots=True)
class State:
    """A file system and what applies in it. root: the folder that is its /."""

    root: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": PATH})
    folder: str = "/"
    user: str = "0"

    def run(self, command: str) -> None:
        """Run a command of a RUN instruction."""
        said = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        environment = {**said, "DEBIAN_FRONTEND": "noninteractive", **self.environment}
        inside = f"cd {shlex.quote(self.folder)} && {command}"
        print(f"   RUN {command}", flush=True)
        with mounted("proc", self.root / "proc"):
            done = subprocess.run(
                ["chroot", str(self.root), "/bin/sh", "-c", inside], env=environment, capture_output=True, text=True
            )
        if done.returncode != 0:
            sys.exit(f"{done.stdout}{done.stderr}it ended with {done.returncode}")

    def copy(self, sources: Sequence[Path], target: str) -> None:
        """Copy files, or the content of folders, to a path of this file system."""
        to = self.root / os.path.join(self.folder, target).lstrip("/")
        for source in sources:
            print(f"   COPY {source.name} {target}", flush=True)
            if source.is_dir():
                shutil.copytree(source, to, symlinks=True, dirs_exist_ok=True)
            elif target.endswith(("/", ".")):
                to.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, to / source.name)
            else:
                shutil.copy2(source, to)


@contextmanager
def mounted(kind: str, folder: Path) -> Iterator[None]:
    subprocess.run(["mount", "-t", kind, kind, str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def make_base(root: Path) -> None:
    """Put a Debian with a Python into a folder."""
    command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    for name, path in ALIASES.items():
        (root / "usr/local/bin" / name).symlink_to(path)
    # The network is the one of this machine, with whoever vouches for the package index here.
    for file in (Path("/etc/resolv.conf"), CERTIFICATES):
        if file.exists():
            shutil.copy(file, root / file.relative_to("/"))


def context_of(dockerfile: Path, folder: Path) -> Path:
    """Return a folder with what the build sees: the files beside the Dockerfile that git knows, and a distribution."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=dockerfile.parent, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (source := dockerfile.parent / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, folder / name)
    if "fastserve-" in dockerfile.read_text():
        build = [sys.executable, "-m", "build", "--sdist", "--outdir", str(folder), str(PROJECT)]
        subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
    return folder


def build(dockerfile: Path, base: Path, folder: Path) -> tuple[State, Stage]:
    """Do what a Dockerfile says; return the file system of the last stage."""
    context = context_of(dockerfile, Path(tempfile.mkdtemp(dir=folder)))
    built: dict[str | None, State] = {}
    for stage in stages(dockerfile.read_text()):
        print(f"   FROM {stage.base}", flush=True)
        root = Path(tempfile.mkdtemp(dir=folder))
        root.chmod(0o755)
        subprocess.run(["cp", "-a", f"{base}/.", str(root)], check=True)
        state = State(root)
        for instruction in stage.instructions:
            _do(instruction, state, context, built)
        built[stage.name] = state
    return state, stage


def _do(instruction: Instruction, state: State, context: Path, built: Mapping[str | None, State]) -> None:
    match instruction.keyword:
        case "RUN":
            state.run(instruction.value)
        case "ENV":
            state.environment |= assigned(instruction, state.environment)
        case "WORKDIR":
            state.folder = instruction.value
            (state.root / state.folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
        case "USER":
            state.user = instruction.value
        case "COPY":
            *names, target = [word for word in instruction.words if not word.startswith("--")]
            stage = instruction.flags.get("from")
            root = built[stage].root if stage is not None else context
            found = [sorted(root.glob(name.lstrip("/"))) if name != "." else [root] for name in names]
            state.copy([path for paths in found for path in paths], target)


@contextmanager
def network() -> Iterator[str]:
    """Make a network namespace with nothing but a loopback interface; its ports are free."""
    name = f"fastserve-{os.getpid()}-image"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


class Container:
    """The command of an image, running. It ends with the block."""

    def __init__(self, state: State, command: Sequence[str], net: str) -> None:
        self._state = state
        self._net = net
        root = shlex.quote(str(state.root))
        prepare = f"mount --bind {root} {root} && mount -o remount,bind,ro {root} && mount -t tmpfs tmpfs {root}/tmp"
        prepare += f" && mount -t proc proc {root}/proc && exec chroot {root} " + shlex.join(self._inside(command))
        # ip's own namespace for mounts would not see the file system that a later mount makes.
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", net, "unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", prepare],
            env=state.environment,
        )

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()

    def _inside(self, command: Sequence[str]) -> list[str]:
        user = [f"--reuid={self._state.user}", f"--regid={self._state.user}", "--clear-groups"]
        drop = ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
        change = f"cd {shlex.quote(self._state.folder)} && exec {shlex.join(command)}"
        return ["setpriv", *user, *drop, "sh", "-c", change]

    @property
    def pid(self) -> int:
        """Process 1 of the container, as this machine sees it."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        ends_at = time.monotonic() + PATIENCE_S
        while not (found := children.read_text().split()):
            assert self.is_running, "it has ended"
            assert time.monotonic() < ends_at, "it has not started"
            time.sleep(0.01)
        return int(found[0])

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a command beside it, as `docker exec` does."""
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--net", "chroot", str(self._state.root)]
        return subprocess.Popen([*enter, *self._inside(command)], env=self._state.environment, stderr=subprocess.PIPE)

    def stop(self, number: int) -> int:
        """Send it a signal and return its status."""
        os.kill(self.pid, number)
        return self._process.wait(PATIENCE_S)


def try_image(state: State, stage: Stage, request: Sequence[str]) -> None:
    """Start an image, ask it, and stop it. request: the target and the body of a POST request to its application.

    Raises:
        AssertionError: something is not as it should be.
    """
    command, check, stop = (stage.last(keyword) for keyword in ("CMD", "HEALTHCHECK", "STOPSIGNAL"))
    arguments = command.arguments or [] if command is not None else []
    test = check.arguments or [] if check is not None else []
    number = getattr(signal, stop.value if stop is not None else "SIGTERM")
    with network() as net, Container(state, arguments, net) as container:
        ends_at = time.monotonic() + PATIENCE_S
        while (status := container.start(test).wait()) != 0 and time.monotonic() < ends_at and container.is_running:
            time.sleep(0.2)
        assert status == 0, "the health check does not succeed"
        print("   healthy", flush=True)
        facts = Path(f"/proc/{container.pid}/status").read_text()
        said = dict(line.split(":\t", 1) for line in facts.splitlines())
        assert said["NSpid"].split()[-1] == "1", "fastserve is not process 1"
        assert said["Uid"].split() == [state.user] * 4, "another user than that of the image"
        assert int(said["CapEff"], 16) == 0, "it has capabilities"
        assert container.start(["sh", "-c", "fastserve --version | grep -q ', compiled)'"]).wait() == 0, "not compiled"
        assert container.start(["touch", "/srv/app/x"]).wait() != 0, "the file system can be written"
        slow = container.start(["python", "-c", SLOW_REQUEST, *request])
        _wait_connected(container)
        status = container.stop(number)
        assert slow.wait() == 0, "a request was lost when it stopped"
        assert status == 0, f"it ended with {status}"
        print(f"   {number.name}: ended with 0, the running request answered", flush=True)


# Half of the body is sent before the server is told to stop, and half of it after that.
SLOW_REQUEST = """
import select, socket, sys, time
fields = "Host: localhost\\r\\nContent-Type: application/json\\r\\nContent-Length: {}\\r\\n"
head, half = "POST {} HTTP/1.1\\r\\n" + fields + "\\r\\n", 5
target, body = sys.argv[1:]
sock = socket.create_connection(("127.0.0.1", 8000))
sock.sendall((head.format(target, len(body)) + body[:half]).encode())
assert not select.select([sock], [], [], 1.5)[0], "answered too soon"
sock.sendall(body[half:].encode())
assert sock.recv(100).startswith(b"HTTP/1.1 20"), "no answer"
"""


def _wait_connected(container: Container) -> None:
    ends_at = time.monotonic() + PATIENCE_S
    table = Path(f"/proc/{container.pid}/net/tcp")
    # Port 8000, and state 01: established.
    while not any(":1F40 " in line and line.split()[3] == "01" for line in table.read_text().splitlines()[1:]):
        assert time.monotonic() < ends_at, "the request does not come"
        time.sleep(0.01)
    time.sleep(0.2)  # until its half is read


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dockerfiles", nargs="*", type=Path, default=[*REQUESTS])
    parser.add_argument("--folder", type=Path, help="where file systems are made; it must allow devices")
    parser.add_argument("--base", type=Path, help="a base made before, with --keep-base")
    parser.add_argument("--keep-base", type=Path, help="leave the base here")
    given = parser.parse_args()
    if os.geteuid() != 0 or shutil.which("debootstrap") is None or shutil.which("ip") is None:
        parser.error("root, debootstrap and iproute2 are needed")
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="fastserve-images-") as folder:
        base = given.base or given.keep_base or Path(folder) / "base"
        if given.base is None:
            print(f"{SUITE} with Python", flush=True)
            base.mkdir(parents=True, exist_ok=True)
            make_base(base)
        for dockerfile in given.dockerfiles:
            print(dockerfile.resolve().relative_to(PROJECT), flush=True)
            try_image(*build(dockerfile.resolve(), base, Path(folder)), REQUESTS[dockerfile.resolve()])
    return 0


if __name__ == "__main__":
    sys.exit(main())
