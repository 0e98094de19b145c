"""F08: a full disk locks nobody out, because a login writes only where there is room already."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from store_full_disk import ROUNDS
from stores import DEADLINE, program, start

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a file system in a namespace of its own")

MOUNT = 'mount -t tmpfs -o size=8m,mode=0700 none "$1" && shift && exec "$@"'
ALL_ANSWERED = "wrong accepted wrong"


def on_a_full_disk(directory: Path, kind: str) -> Any:
    """What store_full_disk.py saw."""
    seen = start(
        [
            "unshare",
            "--mount",
            "sh",
            "-c",
            MOUNT,
            "sh",
            str(directory),
            *program("store_full_disk.py", str(directory), kind),
        ]
    )
    output, _ = seen.communicate(timeout=DEADLINE)
    assert seen.returncode == 0
    return json.loads(output)


def test_logins_go_on_when_the_disk_is_full(tmp_path: Path) -> None:
    """Right, wrong and strangers' answers, from the service and from engines beside it, through many checkpoints."""
    seen = on_a_full_disk(tmp_path, "grown")
    assert seen["service"] == {ALL_ANSWERED: ROUNDS}
    assert seen["engines beside"] == {ALL_ANSWERED: ROUNDS + 50}
    assert seen["engines alone"] == {ALL_ANSWERED: 50}
    assert seen["checkpoints"]
    assert not seen["large fits"]
    assert seen["afterwards"] == {ALL_ANSWERED: 1}


def test_without_room_in_the_log_they_are_refused_and_recover(tmp_path: Path) -> None:
    """The control: what the room is for."""
    seen = on_a_full_disk(tmp_path, "short")
    assert seen["service"] == {"refused": ROUNDS}
    assert seen["engines alone"] == {"refused": 50}
    assert seen["afterwards"] == {ALL_ANSWERED: 1}
