"""A place that stands for "/", and the program run in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from manage_double import Double

from .installed import healthy, lay, listening

Run = Callable[..., "subprocess.CompletedProcess[str]"]
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TERM": "xterm", "TZ": "UTC"}

# Not root, but for the way to this project, which may lie in root's own directory.
AS_SOMEBODY = [
    "/usr/bin/setpriv", "--reuid=65534", "--clear-groups",
    "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search",
]  # fmt: skip
PROGRAM = """
import sys
from pathlib import Path
from pam_mfa.cli.main import main
from pam_mfa.cli.paths import Paths
sys.exit(main(sys.argv[2:], Paths(Path(sys.argv[1]))))
"""


@pytest.fixture
def root() -> Iterator[Path]:
    """An empty directory whose path is short enough for sockets."""
    path = Path(tempfile.mkdtemp(prefix="cli-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def environment(**more: str) -> dict[str, str]:
    """What the program is started with: our modules, and nothing else of the tests' surroundings."""
    return {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join(sys.path), **more}


def command(root: Path, *arguments: str) -> list[str]:
    """The command line of `pam-mfa` for a system at `root`."""
    return [sys.executable, "-P", "-c", PROGRAM, str(root), *arguments]


@pytest.fixture
def run(root: Path) -> Run:
    """Run `pam-mfa` to its end, answers on standard input."""

    def run(*arguments: str, input: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(root, *arguments), input=input, capture_output=True, text=True, timeout=60, env=environment(**more)
        )

    return run


@pytest.fixture
def system(root: Path) -> Iterator[Path]:
    """A system with everything in order."""
    lay(root)
    with Double(root, healthy), listening(root):
        yield root
