"""`python -m tests.conformance.autobahn`: the fuzzing client of Autobahn|Testsuite against a server of ours.

It runs on Python 2.7 only, in an environment of its own that `make autobahn` makes. The outcome is printed; the exit
status is 1 when a case fails or is not strict. Reports of each case stay in build/autobahn.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.certificates import flags, write_pair
from tests.process.running import starting_servers

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent

LIGHT = ("1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*")
"""All sections but that of limits and speed, 9, and those of compression, 12 and 13."""

# The agent is only what a report is called.
_AGENT = "fastserve"
# wstest has a deadline for each case, but none for all of them.
_ALL_CASES_S = 3000


def wstest() -> Path | None:
    """Return the fuzzing client, or None where its environment has not been made.

    Raises:
        FileNotFoundError: AUTOBAHN_VENV says where it is, and it is not there.
    """
    folder = os.environ.get("AUTOBAHN_VENV")
    program = ROOT / (folder or ".venv-autobahn") / "bin" / "wstest"
    if program.exists():
        return program
    if folder:
        raise FileNotFoundError(f"AUTOBAHN_VENV is {folder}, but there is no {program}")
    return None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of the cases, each with how the messages went and how the connection was closed."""

    behaviors: dict[str, tuple[str, str]]

    def those(self, behavior: str) -> list[str]:
        """Return the cases with this behavior, of either kind, in the order of their numbers."""
        found = [case for case, both in self.behaviors.items() if behavior in both]
        return sorted(found, key=lambda case: [int(number) for number in case.split(".")])

    def count(self) -> dict[str, int]:
        """Return how many cases went how. INFORMATIONAL is about the end only, and so no case is counted twice."""
        counted: dict[str, int] = {}
        for messages, end in self.behaviors.values():
            worst = messages if messages != "OK" else end
            counted[worst] = counted.get(worst, 0) + 1
        return counted

    def wrong(self) -> list[str]:
        """Return the cases that are neither OK nor INFORMATIONAL."""
        right = {"OK", "INFORMATIONAL"}
        return [case for case, both in self.behaviors.items() if not right.issuperset(both)]


def run_cases(program: Path, url: str, cases: Sequence[str], folder: Path) -> Outcome:
    """Have the fuzzing client try a server, and return what it says. folder: for its reports."""
    reports = folder / "reports"
    spec = {
        "outdir": str(reports),
        "servers": [{"agent": _AGENT, "url": url}],
        "cases": list(cases),
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    command = [str(program), "--mode", "fuzzingclient", "--spec", "spec.json"]
    done = subprocess.run(
        command,
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_ALL_CASES_S,
        check=False,
    )
    index = reports / "index.json"
    if not index.exists():
        raise RuntimeError(f"wstest ended with {done.returncode} and no report:\n{done.stdout}{done.stderr}")
    seen = json.loads(index.read_text())[_AGENT]
    return Outcome({case: (each["behavior"], each["behaviorClose"]) for case, each in seen.items()})


def try_server(
    program: Path, cases: Sequence[str], folder: Path, *, options: Sequence[str] = (), pure: bool = False
) -> Outcome:
    """Start a server with these options, and have the fuzzing client try it. pure: the server runs its sources."""
    (folder / "echo_site.py").write_bytes((HERE / "echo_site.py").read_bytes())
    scheme = "wss" if "--ssl-certfile" in options else "ws"
    # Section 9 has messages of 16 MiB.
    limits = ("--ws-max-size", str(64 * 2**20), "--no-access-log")
    environment = {"FASTSERVE_PURE": "1"} if pure else {}
    with starting_servers(folder) as start:
        server = start("echo_site:app", "--port", "0", *limits, *options, environment=environment).wait_ready()
        outcome = run_cases(program, f"{scheme}://127.0.0.1:{server.address[1]}/", cases, folder)
        if "Traceback" in server.log or server.stop():
            raise RuntimeError(f"something is wrong with the server:\n{server.log}")
    return outcome


def main() -> int:
    """Try a server as the arguments say, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.autobahn", description=__doc__)
    parser.add_argument("--cases", nargs="+", default=["*"], help='such as "9.*"; all unless said')
    parser.add_argument("--loop", default="auto", help="--loop of the server")
    parser.add_argument("--pure", action="store_true", help="a server that runs its sources")
    parser.add_argument("--tls", action="store_true", help="over TLS")
    options = parser.parse_args()
    program = wstest()
    if program is None:
        print("there is no Autobahn|Testsuite: make autobahn", file=sys.stderr)
        return 2
    folder = ROOT / "build" / "autobahn"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as certificates:
        arguments = ["--loop", options.loop, *(flags(write_pair(Path(certificates))) if options.tls else ())]
        began = time.monotonic()
        outcome = try_server(program, options.cases, folder, options=arguments, pure=options.pure)
    counted = ", ".join(f"{count} {behavior}" for behavior, count in sorted(outcome.count().items()))
    print(f"{len(outcome.behaviors)} cases in {time.monotonic() - began:.0f} s: {counted}")
    for behavior in ("INFORMATIONAL", "NON-STRICT", "FAILED"):
        if cases := outcome.those(behavior):
            print(f"{behavior}: {', '.join(cases)}")
    return 1 if outcome.wrong() else 0


if __name__ == "__main__":
    sys.exit(main())
