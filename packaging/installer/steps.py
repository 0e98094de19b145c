"""What every step uses: its one line of output, its failure, programs run without the caller's Python settings."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent
BUILD = PROJECT / "build"
LIB = Path("/usr/lib/pam-mfa")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Where pip gets its packages from is the system's business; where it puts them is ours.
PIP_KEPT = ("PIP_CERT", "PIP_CONFIG_FILE", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_PROXY")


class StepFailed(Exception):
    """A step cannot go on; its text is one line that says what to do."""


def report(step: str, result: str) -> None:
    """The one line of a step."""
    print(f"{step}: {result}", flush=True)


def environment(*first: Path) -> dict[str, str]:
    """The caller's environment without anything that leads to another Python, compiler flags or pip target."""
    dropped = ("PYTHON", "PYENV", "VIRTUAL_ENV", "CONDA", "PIP_")
    dropped_flags = ("CC", "CFLAGS", "CPPFLAGS", "LDFLAGS", "MAKEFLAGS", "DESTDIR")
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in PIP_KEPT or not (name.startswith(dropped) or name in dropped_flags)
    }
    path = os.pathsep.join([*(str(entry) for entry in first), SYSTEM_PATH])
    return kept | {"PATH": path, "LC_ALL": "C.UTF-8", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}


def run(argv: Sequence[str | Path], what: str, env: dict[str, str] | None = None, stdin: str = "") -> str:
    """Run a program to its end; returns its output.

    Raises StepFailed with `what` where it fails, after its last lines went to standard error.
    """
    done = subprocess.run(
        [str(word) for word in argv],
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=env or environment(),
    )
    if done.returncode:
        print(*done.stdout.splitlines()[-25:], sep="\n", file=sys.stderr)
        raise StepFailed(what)
    return done.stdout
