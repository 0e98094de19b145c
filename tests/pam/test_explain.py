"""`pam-mfa explain` against real logins, by service and engine."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hosts import Scene

SETTINGS = """
[[rule]]
name = "office"
networks = ["192.0.2.0/24"]
exempt = true
[[rule]]
name = "become"
services = ["brief"]
subject = "caller"
[[rule]]
name = "guests"
users = ["carol"]
unenrolled = "allow"
session = "local"
[[rule]]
name = "key first"
users = ["bob"]
groups = ["bob"]
first_factor = "publickey"
"""


def explained(scene: Scene, *arguments: str, user: str | None = None) -> dict[str, Any]:
    lines = scene.up().run(["/usr/bin/pam-mfa", "explain", "--json", *arguments], user).stdout.splitlines()
    record = json.loads(lines[-1])
    assert isinstance(record, dict)
    return record


@pytest.mark.parametrize(
    ("user", "items", "rule", "code"),
    [
        ("alice", {}, "policy", "SUCCESS"),
        ("alice", {"rhost": "192.0.2.1"}, "office", "IGNORE"),
        ("alice", {"rhost": "192.0.3.1"}, "policy", "SUCCESS"),
        ("carol", {}, "policy", "MAXTRIES"),
        ("carol", {"tty": "tty1"}, "guests", "IGNORE"),
        ("carol", {"tty": "tty1", "rhost": "far"}, "policy", "MAXTRIES"),
        ("bob", {}, "key first", "AUTH_ERR"),
        ("bob", {"ruser": "alice", "service": "brief"}, "become", "SUCCESS"),
        ("bob", {"ruser": "carol", "service": "brief"}, "become", "MAXTRIES"),
    ],
)
def test_it_says_what_becomes_of_a_login(scene: Scene, user: str, items: dict[str, str], rule: str, code: str) -> None:
    scene.configure(SETTINGS)
    service = items.get("service", "mfa")
    options = [f"--{name}={value}" for name, value in {**items, "service": service}.items()]
    said = explained(scene, "--user", user, *options)
    assert (said["rule"], said["code"]) == (rule, f"PAM_{code}")
    subject = scene.people[said["subject"]]
    answers = [subject.code()] if code == "SUCCESS" else [""] * 3
    login = scene.login(user, *answers, **{**items, "service": service})
    assert login.code == code
    assert login.prompts[:1] == ([said["sees"]] if said["sees"] else [])


@pytest.mark.parametrize("scene", ["service"], indirect=True)
def test_a_user_asks_about_itself_alone(scene: Scene) -> None:
    """Of the service, which alone has a socket for everybody."""
    scene.configure(SETTINGS)
    assert explained(scene, "--service", "mfa", user="carol")["code"] == "PAM_MAXTRIES"
    for other in (["--user", "alice"], ["--ruser", "alice"]):
        done = scene.machine.run(["/usr/bin/pam-mfa", "explain", "--service", "su", *other], "carol", check=False)
        assert done.returncode == 3
        assert "only root" in done.stderr
