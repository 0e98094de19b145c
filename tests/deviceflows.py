"""A device factor by script, for flows that need one and are about none of the real ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flows import ALICE, FACTORS

from pam_mfa.conversation import (
    DeviceGone,
    DeviceReply,
    DeviceTouch,
    Expired,
    Shown,
    Skipped,
    Steps,
    Tell,
    Wait,
    expect,
)
from pam_mfa.factors.base import Ceremony, Enrolment, Factor, Made, comparable, settle
from pam_mfa.outcome import Proof
from pam_mfa.store.base import Advance
from pam_mfa.store.rows import Credential
from pam_mfa.throttle import Instant


class Key:
    """It waits, cues, verifies and settles, as every device factor does; here by script."""

    name = "key"

    def prove(self, ceremony: Ceremony) -> Steps[Proof | None]:
        """Flow: wait for the device, ask for its touch, believe the reply that is its credential's material."""
        compared = comparable(ceremony, self.name)
        event = yield Wait(("assert", ceremony.session), 30.0, skippable=True)
        while isinstance(event, DeviceTouch):
            expect((yield Tell("Touch your security key", skippable=True)), Shown)
            event = yield Wait(None, 30.0, skippable=True)
        if isinstance(event, Skipped | Expired | DeviceGone):
            return None
        reply = expect(event, DeviceReply).reply
        ceremony.tries -= 1
        own = ceremony.account.of(self.name) if compared else ()
        matched = next(((c, Advance(c.id, c.mark + 1)) for c in own if c.material == reply), None)
        return (yield from settle(ceremony, self.name, compared, matched))

    def enrol(self, enrolment: Enrolment) -> Steps[Made]:
        """Flow: take what the device says."""
        reply = expect((yield Wait(("make", enrolment.id), 30.0)), DeviceReply).reply
        assert isinstance(reply, bytes)
        return Made(enrolment.credential(self.name, reply))

    def details(self, credential: Credential) -> Mapping[str, Any]:
        return {}

    def ceiling(self, credential: Credential, now: Instant) -> int | None:
        return None


def key(uid: int = ALICE, user: str = "alice") -> Credential:
    """An enrolled device."""
    return Credential("0de1ce" + "0" * 26, uid, user, "key", "blue key", b"a signature")


FACTORS_AND_KEY: Mapping[str, Factor] = {**FACTORS, "key": Key()}
