"""Whatever goes wrong inside of Python, and whatever an engine says instead of a verdict, opens nothing."""

from __future__ import annotations

import pytest
from hosts import Scene
from machine import Machine, wait_for
from people import Town, sessions

ENGINE = "pam-mfa-engine"
PACKAGE = "/usr/lib/pam-mfa/site/pam_mfa"

# What a login passes through: module and function. Functions that are flows raise when they are first stepped.
READER = ("store.sqlite_rows", "QUERIES[FindAccount]")
WRITER = ("store.sqlite_rows", "OPERATIONS[Attempt]")
PLACES = [
    ("assessment", "decide"), ("assessment", "choose"), ("login", "assess"), ("assessment", "read"), ("login", "prove"),
    ("login", "grant"), ("assessment", "place"), ("credit", "credited"), ("break_glass", "backed"),
    ("tickets", "joined"), ("notices", "news"),
    ("factors.code", "ask"), ("factors.code", "comparable"), ("factors.code", "settle"),
    ("factors.totp", "Totp.fits"), ("factors.totp", "Totp.match"), ("factors.totp", "Totp.aftermath"),
    ("factors.base", "commit"), ("service.transaction", "login"),
    READER, WRITER,
]  # fmt: skip
RAISED = ["RuntimeError('x')", "MemoryError()", "SystemExit(0)", "KeyboardInterrupt()", "StopIteration(0)"]
# Not one of these is the one value that a login may end with.
RETURNED = ["True", "0", "0xA5", "Outcome.GRANTED", "Verdict(True, 'proven')", "Verdict(0xA5, 'proven')", "None"]


def append(machine: Machine, module: str, text: str) -> None:
    """Add to the installed source of a module, and have it compiled anew."""
    path = f"{PACKAGE}/{module.replace('.', '/')}"
    folder, _, name = path.rpartition("/")
    machine.run(["/bin/sh", "-c", f"cat >> {path}.py; rm {folder}/__pycache__/{name}.*"], input=text)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: ".".join(place))
def test_an_exception_anywhere_opens_nothing(scene: Scene, place: tuple[str, str]) -> None:
    """Each exception once; which one it is says a file, so that one machine does for all."""
    module, name = place
    append(
        scene.machine,
        module,
        f"\ndef _bad(*_, **__):\n    with open('/run/raise') as file: raise eval(file.read())\n{name} = _bad\n",
    )
    for raised in RAISED[:2] if place == WRITER else RAISED:  # what ends a thread does not arise in that one
        scene.machine.write("/run/raise", raised)
        scene.up()
        assert scene.host.login("alice", scene.alice.code(), service="brief").code == "AUTHINFO_UNAVAIL"
        wait_for("the engine's end", lambda: not scene.machine.processes(ENGINE))
    if scene.side == "service" and place != READER:
        assert sessions(scene.machine) == 0


@pytest.mark.parametrize("value", RETURNED)
def test_a_value_that_is_no_verdict_opens_nothing(scene: Scene, value: str) -> None:
    text = f"\nfrom .outcome import *\ndef login(*_):\n    yield from ()\n    return {value}\n"
    append(scene.machine, "login", text)
    scene.up()
    assert scene.host.login("alice", scene.alice.code()).code == "AUTHINFO_UNAVAIL"


@pytest.mark.parametrize(
    "proof",
    [
        "None",
        "True",
        "object()",
        "Proof('other', ceremony.uid, 'totp', 'x', 'x')",
        "Proof(ceremony.session, 0, '', '', '')",
    ],
)
def test_a_proof_of_something_else_opens_nothing(scene: Scene, proof: str) -> None:
    append(scene.machine, "login", f"\ndef prove(ceremony, *_):\n    yield from ()\n    return {proof}\n")
    scene.up()
    login = scene.host.login("alice", scene.alice.code())
    assert login.code in ("AUTHINFO_UNAVAIL", "AUTH_ERR")


# An engine that lies

LIE = """
import os, socket, struct
def run(role, sockets):
    link = socket.socket(fileno=3)
    hello = link.recv(5000)
    nonce = hello[7:23]
    link.send(b"\\1\\x15\\0\\0")
    for frame in [{frames}]:
        link.send(frame)
    link.recv(5000)
    return 0
def result(code, nonce, delay=0):
    return struct.pack(">BBHBI", 1, 0x1f, 21, code, delay) + nonce
"""
GRANTED = "result(0xA5, nonce)"


@pytest.fixture
def lying(machine_of_people: Machine, town: Town, request: pytest.FixtureRequest) -> Scene:
    """A machine whose engine sends frames of this test's choice."""
    machine_of_people.run(["/bin/sh", "-c", f"rm {PACKAGE}/__pycache__/engine.*"])
    machine_of_people.write(f"{PACKAGE}/engine.py", LIE.format(frames=request.param))
    return Scene(machine_of_people, "engine", town.people())


@pytest.mark.parametrize("lying", [GRANTED], indirect=True)
def test_only_the_right_frame_opens(lying: Scene) -> None:
    """The control of the test below."""
    with_host(lying, "SUCCESS")


@pytest.mark.parametrize(
    "lying",
    [
        "",
        "result(0xA5, bytes(16))",
        "result(0xA5, nonce[::-1])",
        "result(0xA5, nonce[:15] + bytes([nonce[15] ^ 1]))",
        "result(0xA5, b'')",
        *(f"result({code}, nonce)" for code in (0, 1, 2, 0xA4, 0xA7, 0x25, 0xB5, 0xFF, 0x5A)),
        f"{GRANTED}[:-1]",
        f"{GRANTED} + b'x'",
        f"{GRANTED}[:24]",
        f"b'\\2' + {GRANTED}[1:]",
        f"b'\\1\\x1e' + {GRANTED}[2:]",
        "b''",
        "b'\\xa5'",
        "b'\\1\\x06\\0\\0'",
        f"result(0x66, nonce), {GRANTED}",
        f"b'\\1\\x16\\0\\0', {GRANTED}",
    ],
    indirect=True,
)
def test_anything_else_does_not(lying: Scene) -> None:
    with_host(lying, "AUTHINFO_UNAVAIL", "AUTH_ERR")


def with_host(scene: Scene, *codes: str) -> None:
    """One login ends with one of these."""
    try:
        assert scene.host.login("alice", scene.alice.code(), service="brief").code in codes
    finally:
        scene.close()
