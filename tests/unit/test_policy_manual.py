"""packaging/manual/policy.md: its examples against `pam-mfa explain` and the login, and that nothing is left out."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from examples import MANUAL, Example, Login, examples
from flows import CODES, FACTORS, SESSION, Clock, Memory, World, account, code_at, recovery, totp
from keyflows import enrolled
from newcomers import from_app
from softkey import SoftKey

from pam_mfa.assessment import Request
from pam_mfa.cli.main import cli
from pam_mfa.cli.review import review
from pam_mfa.config import parse
from pam_mfa.enroll import Caller, Desk
from pam_mfa.explain import explain
from pam_mfa.login import login
from pam_mfa.outcome import PAM_CODE
from pam_mfa.policy import PUBLIC_KEY
from pam_mfa.rules import MATCH_KEYS, TERM_KEYS
from pam_mfa.store.rows import Account
from pam_mfa.structure import replace

UIDS = {"root": 0, "alice": 1000, "bob": 1001, "carol": 1002, "dave": 1003}
GROUPS = {"alice": {"staff", "admins"}, "bob": {"staff", "contractors"}, "carol": {"rescue"}, "dave": {"staff"}}
KEY = SoftKey()
KEY.verifies = True
BLUE = replace(enrolled(KEY), uid=UIDS["dave"], user="dave")
ITEMS = ("service", "rhost", "tty", "ruser")
ROWS = [(example, row) for example in examples() for row in example.logins]


def has(user: str) -> Account:
    uid = UIDS[user]
    phone = totp(f"{user}s phone", uid, user, secret=user.encode() * 5)
    more = {"dave": [BLUE], "carol": []}.get(user, [recovery(CODES, uid, user)])
    return account(phone, *more, uid=uid)


def world(answers: list[Any], device: list[Any]) -> World:
    people = [has(user) for user in ("alice", "bob", "dave")]
    names = {uid: user for user, uid in UIDS.items()}
    return World(Memory(*people), answers, names, GROUPS, device=device)


def identity(pair: tuple[Example, Login]) -> str:
    return f"{pair[0].title.split('.')[0]}: {' '.join(pair[1].options.values())}"


@pytest.mark.parametrize("pair", ROWS, ids=identity)
def test_an_example(pair: tuple[Example, Login]) -> None:
    example, row = pair
    settings, options = parse(example.settings, FACTORS), dict(row.options)
    user = options["user"]
    args: dict[str, Any] = {name: options.get(name, "") for name in ITEMS}
    desk = Desk(Caller(SESSION, 0, UIDS[user], user, "host"), settings, FACTORS, Clock())
    asked = world([], [])
    key = "public-key" in options
    asked.run(explain(desk, {**args, "session": options.get("session"), "public_key": key}))
    said = asked.records[-1]
    assert (said["code"], said["sees"]) == (row.code, row.sees)
    if "session" in options:  # explain alone can be told where it comes from
        return
    request = Request(SESSION, 0, user=user, uid=UIDS[user], host="host", authinfo=(PUBLIC_KEY,) if key else (), **args)
    signs = said["methods"].get("fido2") == "open"
    code = code_at(has(said["subject"]).of("totp")[0], Clock()()) if said["subject"] != "carol" else ""
    answers = [from_app, ""] if said["entry"] == "enrol" else [code] * 3 + [""]
    real = world(answers, [KEY.holds, KEY.touch, KEY.sign] if signs else [])
    if row.code == "PAM_AUTH_ERR" and row.sees:
        return  # it waits for a key that does not exist: tests/unit/test_uniform.py
    verdict = real.run(login(request, settings, FACTORS, Clock()))
    assert PAM_CODE[verdict.outcome][0] == row.code
    assert [*real.told, *real.asked][:1] == ([row.sees] if row.sees else [])


def test_there_are_ten_and_each_has_what_it_needs() -> None:
    found = examples()
    assert [example.title.split(".")[0] for example in found] == [str(number) for number in range(1, 11)]
    for example in found:
        assert example.settings
        assert len(example.logins) >= 2, example.title
    rows = [line for line in MANUAL.read_text().splitlines() if line.startswith("| `--user")]
    assert len(rows) == len(ROWS)


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.title)
def test_no_example_is_odd(example: Example) -> None:
    tables = tomllib.loads(example.settings).get("rule", [])
    assert list(review(parse(example.settings, FACTORS), tables)) == []


def test_its_keys_and_options_are_there() -> None:
    text = MANUAL.read_text()
    conditions, terms = text.partition("## Conditions")[2].partition("## Terms")[::2]
    assert all(f"`{key}`" in conditions for key in MATCH_KEYS)
    assert all(f"`{key}`" in terms.partition("## Ten examples")[0] for key in TERM_KEYS)
    options = {option for param in cli.commands["explain"].params for option in param.opts}
    assert {f"--{name}" for _, row in ROWS for name in row.options} <= options
    words = {line.split()[1] for line in text.splitlines() if line.startswith("pam-mfa ")}
    assert words <= set(cli.commands)


def test_the_readme_points_to_it() -> None:
    assert "packaging/manual/policy.md" in (MANUAL.parents[2] / "README.md").read_text()
