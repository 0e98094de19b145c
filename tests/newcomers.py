"""People who are enrolled by a login itself: what they read in its prompts."""

from __future__ import annotations

import re
from typing import Any

import pyotp
from flows import Clock
from hosts import Login, Scene
from people import Person, Token, step_now

SHOWN = "Code that the app shows now: "
ENTER = "Press Enter to go on: "
NEEDED = "A second factor is needed here, and you have none yet. Add this account to an authenticator app:"
RECOVERY = re.compile(r"\b(?:[0-9A-HJKMNP-TV-Z]{4}-){5}[0-9A-HJKMNP-TV-Z]{4}\b")


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
