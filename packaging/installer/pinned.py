"""A venv of the distribution's Python that holds exactly what a requirements file names, hash by hash.

As a program: /usr/bin/python3 -I pinned.py DIRECTORY REQUIREMENTS
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))

from files import digest
from steps import environment, run

PYTHON = Path("/usr/bin/python3")


def ensure(directory: Path, requirements: Path) -> bool:
    """Make the venv unless it is there and current.

    Args:
        directory: where; whatever is there and not current is replaced.
        requirements: pinned, with hashes.

    Returns whether it was made now. Raises StepFailed.
    """
    stamp = directory / "made-from"
    wanted = f"{sys.version} {digest([requirements])}"
    if stamp.is_file() and stamp.read_text() == wanted:
        return False
    shutil.rmtree(directory, ignore_errors=True)
    run([PYTHON, "-I", "-m", "venv", directory], "no venv: install the Debian package python3-venv")
    run(
        [directory / "bin/pip", "install", "--require-hashes", "--only-binary", ":all:", "--requirement", requirements],
        f"pip could not install {requirements.name}: is the package index within reach?",
        environment(directory / "bin"),
    )
    stamp.write_text(wanted)
    return True


if __name__ == "__main__":
    made = ensure(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
    print(f"venv: {sys.argv[1]} {'made' if made else 'is current'}")
