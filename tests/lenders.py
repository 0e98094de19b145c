"""Logins one after the other, by rules with a lease, on a real store."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from flows import ALICE, BOB, FACTORS, SESSION, Clock, World, code_at, recovery, totp
from keyflows import enrolled
from softkey import SoftKey
from stores import SEALER, enrol

from pam_mfa.assessment import Request
from pam_mfa.config import Settings
from pam_mfa.login import login
from pam_mfa.origin import Facts
from pam_mfa.outcome import Outcome, Verdict
from pam_mfa.rules import Match, Rule
from pam_mfa.store.base import ListLeases
from pam_mfa.store.rows import Lease
from pam_mfa.store.sqlite import SqliteStore
from pam_mfa.structure import replace

PHONE, BOBS = totp(), totp("bobs", BOB, "bob", secret=b"b" * 20)
TABLET = totp("tablet", secret=b"t" * 20)
SPARE, BLUE = recovery(), enrolled(SoftKey())
TEN = Rule(("totp", "recovery"), lease=600)
HERE = Facts(peer_remote=False, session="3", leader="4711 88123")
SUDO = Request(SESSION, 0, "sudo", "alice", ALICE, ruser="alice", tty="/dev/pts/3")
OFFICE = replace(TEN, name="office", match=Match(networks=(ip_network("192.0.2.0/24"),)))
KEY = b"publickey ssh-ed25519 AAAAC3Nz"
SSH = Request(SESSION, 0, "sshd", "alice", ALICE, tty="ssh", rhost="192.0.2.7", authinfo=(KEY,))


class Scene:
    """A store with alice and bob in it, a clock, and logins."""

    def __init__(self, path: str) -> None:
        self.path, self.clock = path, Clock()
        self.store = SqliteStore(path, SEALER)
        enrol(self.store, PHONE, TABLET, SPARE)
        enrol(self.store, BOBS)

    def login(
        self, request: Request = SUDO, rule: Rule = TEN, facts: object = HERE, *answers: str, **more: Any
    ) -> Verdict:
        """One login, with the right code where none is given."""
        settings = Settings(rule) if rule.match == Match() else Settings(rules=(rule,))
        self.clock.sleep(90)  # the next code
        right = code_at(BOBS if request.user == "bob" or request.ruser == "bob" else PHONE, self.clock())
        self.world = World(self.store, answers or (right,) * 3, facts=facts, **more)
        return self.world.run(login(request, settings, FACTORS, self.clock))

    def asks(self, *args: Any, **more: Any) -> bool:
        """Whether a login asks; it lets by or grants in either case."""
        verdict = self.login(*args, **more)
        asked = bool(self.world.asked)
        granted = (Outcome.GRANTED, "proven") if asked else (Outcome.EXEMPT, "lease")
        assert (verdict.outcome, verdict.reason) == granted
        return asked

    @property
    def leases(self) -> tuple[Lease, ...]:
        """All of alice's."""
        found: tuple[Lease, ...] = self.store.read(ListLeases(ALICE))
        return found
