"""Virtual keys for tests in any process: `Keys` starts their program and talks to it.

with Keys() as keys:
    blue = keys.key("blue", pin="1234")
    subprocess.run(["fido2-token", "-L"], env=os.environ | keys.environment())
    blue.inject(touch="manual")
    ...
    blue.wait_for_user()
    blue.touch()
"""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

TESTS = Path(__file__).resolve().parent.parent
PRELOAD = "libumockdev-preload.so.0"
DEADLINE = 30.0  # seconds; for whatever should have happened long before
PRODUCT = ("/usr/lib/pam-mfa/pam-mfa-engine", "/usr/lib/pam-mfa/pam-mfa-device")
# The name stays: by it the product's executable knows its role.
WRAP = f"""
mkdir -p "$(dirname "$2")"
mv "$1" "$2"
printf '#!/bin/sh\\nLD_PRELOAD=%s:{PRELOAD} exec %s "$@"\\n' "$3" "$2" > "$1"
chmod 0755 "$1"
"""
PACKAGES = ("umockdev", "gir1.2-umockdev-1.0", "python3-gi")

Command = Callable[[Sequence[str]], list[str]]


def missing() -> str:
    """What keeps hidraw nodes from being had here, "" for nothing."""
    typelibs = Path("/usr/lib").glob("*/girepository-1.0/UMockdev-1.0.typelib")
    there = shutil.which("umockdev-wrapper") and any(typelibs) and Path("/usr/lib/python3/dist-packages/gi").is_dir()
    return "" if there else f"packages {', '.join(PACKAGES)}"


class Key:
    """One of the keys; see faults.Faults for what can be injected."""

    def __init__(self, keys: Keys, name: str) -> None:
        self.name = name
        self._keys = keys

    def insert(self) -> None:
        """Plug it in; twice is once."""
        self._keys.tell(f"the {self.name} key is plugged in")
        self._ask("insert")

    def remove(self) -> None:
        """Pull it out; twice is once."""
        self._keys.tell(f"the {self.name} key is pulled out")
        self._ask("remove")

    def inject(self, **faults: Any) -> None:
        """Change some faults."""
        self._ask("inject", faults={name: _plain(value) for name, value in faults.items()})

    def heal(self) -> None:
        """No faults any more."""
        self._ask("heal")

    def touch(self) -> None:
        """Touch it, where it waits for that (faults.touch = "manual")."""
        self._keys.tell(f"the {self.name} key is touched")
        self._ask("touch")

    def set(self, **changes: int) -> None:
        """Set its sign count (`counter`) or tries (`pin_tries`)."""
        self._ask("set", **changes)

    def trace(self, clear: bool = False) -> list[dict[str, Any]]:
        """What it was asked so far, and what it answered."""
        trace: list[dict[str, Any]] = self._ask("trace", clear=clear)
        return trace

    def state(self) -> dict[str, Any]:
        """plugged, awaiting, counter, pin_tries."""
        state: dict[str, Any] = self._ask("state")
        return state

    def wait_for_user(self, deadline: float = DEADLINE) -> None:
        """Until it waits for its user. Raises TimeoutError."""
        end = time.monotonic() + deadline
        while not self.state()["awaiting"]:
            if time.monotonic() > end:
                raise TimeoutError(f"{self.name} did not ask for its user within {deadline} s: {self.trace()}")
            time.sleep(0.005)

    def _ask(self, verb: str, **more: Any) -> Any:
        return self._keys.ask(verb, key=self.name, **more)


class Keys:
    """A testbed with keys; a context manager, or start() and stop() it.

    `place` is the control socket, as seen from here.

    Args:
        command: turns a command line into one that runs it elsewhere, as Machine.command does.
        seen: where a path of that elsewhere is seen from here, as Machine.path does.
        tell: is told what is about to be done with a key.
    """

    def __init__(
        self,
        command: Command = list,
        seen: Callable[[str], Path] = Path,
        tell: Callable[[str], None] = lambda what: None,
    ) -> None:
        self._command = command
        self._seen = seen
        self.tell = tell
        self._process: subprocess.Popen[str] | None = None
        self._socket: socket.socket | None = None
        self._root = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the program; returns when it takes requests. Raises RuntimeError where it does not come up."""
        place = tempfile.mktemp(prefix="vdev-", dir="/tmp")  # a name: it is made elsewhere
        self.place = self._seen(place)
        run = ["/usr/bin/env", f"PYTHONPATH={TESTS}", "umockdev-wrapper", sys.executable, "-m", "vdev.umock", place]
        self._process = subprocess.Popen(self._command(run), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        self._root = self._process.stdout.readline().strip()
        if not self._root:
            self.stop()
            raise RuntimeError("the virtual keys did not come up; their reason is on standard error")
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(DEADLINE)
        self._socket.connect(str(self.place))
        self._lines = self._socket.makefile("rwb")

    def stop(self) -> None:
        """Pull every key out and end the program. Twice is once. Raises RuntimeError where that had failed before."""
        if self._socket:
            self._lines.close()
            self._socket.close()
            self._socket = None
        if self._process:
            process, self._process = self._process, None
            process.communicate(timeout=DEADLINE)
            if process.returncode:
                raise RuntimeError(f"the virtual keys ended with {process.returncode}")

    def key(self, name: str, seed: bytes | None = None, insert: bool = True, **options: Any) -> Key:
        """A new key, plugged in where `insert`; `options` are fields of model.Model. `seed` is made of its name."""
        if insert:
            self.tell(f"the {name} key is plugged in")
        seed = hashlib.sha256(name.encode()).digest() if seed is None else seed
        options = {option: _plain(value) for option, value in options.items()}
        self.ask("key", key=name, seed=seed.hex(), insert=insert, options=options)
        return Key(self, name)

    def environment(self) -> dict[str, str]:
        """What a program needs to see the keys; lost where it is setuid or clears its environment (show_to)."""
        return {"LD_PRELOAD": PRELOAD, "UMOCKDEV_DIR": self._root}

    def show_to(self, *programs: str) -> None:
        """Have these programs of the private machine see the keys, by default the product's, whatever becomes of their
        environment: a script in the place of each sets it, and a library keeps what is cleared later.

        Raises ValueError outside of a private machine: that would change this system.
        """
        if self._command is list:
            raise ValueError("only in a private machine")
        library = "/usr/lib/vdev-testbed.so"
        build = ["gcc", "-shared", "-fPIC", "-O2", f'-DTESTBED="{self._root}"', str(TESTS / "vdev/testbed.c")]
        subprocess.run([*build, "-o", str(self._seen(library))], check=True)
        for program in programs or PRODUCT:
            real = program.replace("/pam-mfa/", "/pam-mfa/real/") if program in PRODUCT else f"{program}.real"
            subprocess.run(self._command(["/bin/sh", "-euc", WRAP, "wrap", program, real, library]), check=True)

    def ask(self, verb: str, **request: Any) -> Any:
        """One request of control.py. Raises RuntimeError with its problem."""
        self._lines.write(json.dumps({"verb": verb, **request}).encode() + b"\n")
        self._lines.flush()
        answer = json.loads(self._lines.readline())
        if "problem" in answer:
            raise RuntimeError(f"{verb} {request}: {answer['problem']}")
        return answer["answer"]


def _plain(value: Any) -> Any:
    """Bytes as the control channel writes them."""
    if isinstance(value, bytes):
        return value.hex()
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value
