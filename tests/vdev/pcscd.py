"""A private pcscd with virtual readers: nothing of the system's own pcscd is used or seen.

with Pcscd(readers=2) as pcscd:
    pcscd.readers[0].insert(Card(FidoApplet(Authenticator(b"seed"))))
    subprocess.run(["opensc-tool", "-l"], env=os.environ | pcscd.environment)
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .iso7816 import Card
from .vpcd import Contact

DRIVER = Path("/usr/lib/pcsc/drivers/serial/libifdvpcd.so")
DAEMON = Path("/usr/sbin/pcscd")
PYTHON = "/usr/bin/python3"
FIRST_PORT = 0x8C7B
SLOTS = 2  # of one driver, compiled in
LOG_TAIL = 1000  # characters
DEADLINE = 30.0  # seconds; for whatever should have happened long before


def missing() -> str | None:
    """What this system lacks to run one, None where all is there."""
    wanted = {DAEMON: "pcscd", DRIVER: "vsmartcard-vpcd"}
    lacking = [package for path, package in wanted.items() if not path.exists()]
    if lacking:
        return f"install {' '.join(lacking)}"
    if subprocess.run([*_unshare(), "true"], stderr=subprocess.DEVNULL).returncode:
        return "no network namespaces for us here"
    return None


def _unshare() -> list[str]:
    return ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]


class Reader:
    """One reader.

    Args:
        pcscd: whose it is.
        name: as clients see it.
        port: of its driver.
    """

    def __init__(self, pcscd: Pcscd, name: str, port: int) -> None:
        self.name = name
        self._pcscd = pcscd
        self._port = port
        self._contact: Contact | None = None

    def insert(self, card: Card, wait: bool = True) -> None:
        """Put a card in; with `wait` return when clients see it (within half a second), which a mute one prevents."""
        assert self._contact is None, f"there is a card in {self.name}"
        self._contact = Contact(card, self._pcscd.connect(self._port))
        if wait:
            self._pcscd.wait(self.name, present=True)

    def remove(self, wait: bool = True) -> None:
        """Take the card out, if there is one, also in the middle of a command; `wait` as above.

        What the card itself calls (CardFaults.before) must not wait: pcscd waits for the card.
        """
        contact, self._contact = self._contact, None
        if contact:
            contact.close()
            if wait:
                self._pcscd.wait(self.name, present=False)

    def swap(self, card: Card, unseen: bool = False) -> None:
        """Another card instead; with `unseen` between two looks at the reader, so that no client is told.

        Raises OSError as `insert` does.
        """
        if unseen:
            assert self._contact, f"there is no card in {self.name}"
            self._contact.swap(card)
        else:
            self.remove()
            self.insert(card)


class Pcscd:
    """One pcscd; a context manager, or close() it.

    Args:
        readers: how many.
        path: of its socket, /run/pcscd/pcscd.comm of a private machine for one; its own place otherwise, which clients
            find by `environment`.

    Raises OSError where it does not come up; see `missing`.
    """

    def __init__(self, readers: int = SLOTS, path: Path | None = None) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="pcscd-"))
        self._home.chmod(0o755)
        self.path = path or self._home / "pcscd.comm"
        self._count = readers
        self.path.parent.mkdir(exist_ok=True)
        self._configure((readers + SLOTS - 1) // SLOTS)
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        program = Path(__file__).with_name("pcscd_namespace.py")
        command = [*_unshare(), PYTHON, "-I", str(program), str(self.path), str(self._home / "readers")]
        with theirs, (self._home / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=theirs.fileno(), stdout=log, stderr=log)
        self.pid = 0
        self.readers: list[Reader] = []
        try:
            self.start()
        except OSError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs beside its own environment."""
        return {"PCSCLITE_CSOCK_NAME": str(self.path)}

    def start(self) -> None:
        """Start it anew, whatever became of it; its readers are empty. Raises OSError."""
        self._take_out()
        self.pid = self._ask(do="start")["pid"]
        slots = (self._count + SLOTS - 1) // SLOTS * SLOTS
        # Newer ones load their drivers side by side: readers are listed in the order in which they came up.
        names = sorted(self._ask(do="names", count=slots, seconds=DEADLINE)["names"])[: self._count]
        self.readers[:] = [Reader(self, name, FIRST_PORT + number) for number, name in enumerate(names)]

    def refuse(self) -> None:
        """Instead of pcscd there is one that polkit tells to let nobody in (0x8010006A); until start() or stop()."""
        self._take_out()
        self.pid = self._ask(do="start", refuse=True)["pid"]

    def stop(self) -> None:
        """No pcscd, and no socket; cards are out. To hang it instead, send a SIGSTOP to `pid`."""
        self._ask(do="stop")
        self._take_out()

    def close(self) -> None:
        """End it and everything of it. Twice is once."""
        self._take_out()
        self._control.close()
        self._process.wait(DEADLINE)
        shutil.rmtree(self._home, ignore_errors=True)

    def wait(self, reader: str, present: bool) -> None:
        """Until clients see a card in that reader, or none. Raises OSError."""
        self._ask(do="wait", reader=reader, present=present, seconds=DEADLINE)

    def connect(self, port: int) -> socket.socket:
        """A connection to the driver of one reader. Raises OSError."""
        self._control.send(json.dumps({"do": "connect", "port": port, "seconds": DEADLINE}).encode())
        answer, fds, _, _ = socket.recv_fds(self._control, 65536, 1)
        self._judge(answer)
        return socket.socket(fileno=fds[0])

    def _configure(self, drivers: int) -> None:
        """Readers for pcscd. Each driver is a copy: the second use of one library would share the first one's slots."""
        (self._home / "readers").mkdir()
        for number in range(drivers):
            driver, port = self._home / f"driver-{number}.so", FIRST_PORT + number * SLOTS
            shutil.copy(DRIVER, driver)
            where = f"DEVICENAME /dev/null:{port:#06X}\nCHANNELID {port:#06X}"
            reader = f'FRIENDLYNAME "Reader {number}"\n{where}\nLIBPATH {driver}\n'
            (self._home / f"readers/{number}").write_text(reader)

    def _take_out(self) -> None:
        for reader in self.readers:
            reader.remove(wait=False)

    def _ask(self, **request: Any) -> dict[str, Any]:
        self._control.send(json.dumps(request).encode())
        return self._judge(self._control.recv(65536))

    def _judge(self, answer: bytes) -> dict[str, Any]:
        fields: dict[str, Any] = json.loads(answer or b'{"error": "the namespace ended"}')
        if "error" in fields:
            log = (self._home / "log").read_text(errors="replace")
            raise OSError(f"{fields['error']}\n{log[-LOG_TAIL:]}")
        return fields
