"""People who are enrolled by a login itself: what they read in its prompts."""

from __future__ import annotations

import re

import pyotp
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


def take_codes(person: Person, prompt: str) -> None:
    """Write the recovery codes down."""
    person.recovery = RECOVERY.findall(prompt)
    assert len(set(person.recovery)) == 10
