"""People without a credential: their logins, stepped, and what they read in the prompts of one that enrols them."""

from __future__ import annotations

import re
from typing import Any

import pyotp
from flows import ALICE, FACTORS, SESSION, Clock, World
from hosts import Login, Scene
from people import Person, Token, step_now

from pam_mfa.assessment import Request
from pam_mfa.config import Settings
from pam_mfa.login import login
from pam_mfa.outcome import Verdict
from pam_mfa.service.transaction import verdict_of

CALL = "Call the help desk: 0800 123"
SHOWN = "Code that the app shows now: "
ENTER = "Press Enter to go on: "
NEEDED = "A second factor is needed here, and you have none yet. Add this account to an authenticator app:"
RECOVERY = re.compile(r"\b(?:[0-9A-HJKMNP-TV-Z]{4}-){5}[0-9A-HJKMNP-TV-Z]{4}\b")


def request(**items: Any) -> Request:
    """What alice's sudo asks for, but for what is named."""
    return Request(**{"session": SESSION, "peer_uid": 0, "service": "sudo", "user": "alice", "uid": ALICE, **items})


def run(world: World, settings: Settings, asks: Request | None = None) -> Verdict:
    """A login to its verdict, as the service would give it."""
    try:
        return world.run(login(asks or request(), settings, FACTORS, Clock()))
    except Exception as problem:
        if isinstance(problem, AssertionError):
            raise
        return verdict_of(problem)


def take_secret(person: Person, prompt: str) -> str:
    """Type the secret into an app; returns the code that it shows. The link in the prompt holds the same secret."""
    (typed,) = re.findall(r"Secret: ((?:[A-Z2-7]{4} ?)+)\r?\n", prompt)
    (link,) = re.findall(r"(otpauth://\S+)", prompt)
    app = pyotp.parse_uri(link)
    assert isinstance(app, pyotp.TOTP)
    assert app.secret == typed.replace(" ", "")
    assert app.name is not None
    assert app.name.startswith(f"{person.user}@")
    person.tokens.append(Token(app.secret, "totp 1", step_now()))
    return app.at(step_now() * 30)


def from_app(prompt: str) -> str:
    """The same for who lives in the time of flows.Clock, and keeps nothing."""
    app = pyotp.parse_uri(next(word for word in prompt.split() if word.startswith("otpauth:")))
    assert isinstance(app, pyotp.TOTP)
    return app.at(Clock().wall)


def take_codes(person: Person, prompt: str) -> None:
    """Write the recovery codes down."""
    person.recovery = RECOVERY.findall(prompt)
    assert len(set(person.recovery)) == 10


def enrolled_by_login(scene: Scene, user: str = "carol", **options: Any) -> Login:
    """A login that enrols, to its end."""
    person = scene.people[user]
    scene.host.begin(user, **options)
    scene.host.answer(take_secret(person, scene.host.prompt()))
    take_codes(person, scene.host.prompt())
    scene.host.answer("")
    return scene.host.end()
