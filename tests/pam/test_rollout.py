"""Users without a credential, by service and engine: let in for a while, told whom to call, enrolled on the way."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hosts import Host, Scene, records
from machine import Machine
from newcomers import NEEDED, enrolled_by_login, take_codes, take_secret
from people import Town, account, configure, enrol, manage, sql

CODE = "Verification code: "
THREE = ["000000"] * 3
CALL = "Call the help desk: 0800 123"
ENROLS = "[policy]\nenrol_at_login = true\n"


def left(words: str) -> str:
    return f"Enrol a second factor with: pam-mfa enroll ({words}; from then on it is needed here)"


def test_a_number_of_logins(scene: Scene) -> None:
    scene.configure(f"[policy]\nlogins_left = 3\nhelp = '{CALL}'")
    for words in ("2 logins are left", "1 login is left", "this is the last login"):
        login = scene.login("carol")
        assert (login.code, login.shown, scene.reason) == ("IGNORE", [left(words)], "logins_left")
    login = scene.login("carol", *THREE)
    assert (login.code, login.shown, scene.reason) == ("MAXTRIES", [CALL], "unenrolled")
    assert scene.login("bob", *THREE).shown == []
    assert scene.login("unknown", *THREE).shown == []


def test_as_long_as_date_and_number_allow_it(scene: Scene) -> None:
    scene.configure(
        "[policy]\nlogins_left = 9\nenrol_by = 2099-12-31\n"
        "[[rule]]\nusers = ['carol']\nservices = ['brief']\nenrol_by = 2020-01-01"
    )
    assert scene.login("carol", *THREE, service="brief").code == "MAXTRIES"
    login = scene.login("carol")
    assert (login.code, "days are left, 8 logins are left" in login.shown[0]) == ("IGNORE", True)
    enrol(scene.machine, scene.people["carol"])
    assert scene.login("carol", *THREE).code == "MAXTRIES"


def test_where_nothing_was_proven_nothing_is_told(scene: Scene) -> None:
    scene.configure(f"[policy]\nhelp = '{CALL}'\nfirst_factor = 'none'\nenrol_at_login = true")
    seen = {user: scene.login(user, *THREE) for user in ("carol", "bob", "unknown")}
    assert {(one.code, tuple(one.prompts), tuple(one.shown)) for one in seen.values()} == {
        ("MAXTRIES", tuple(seen["bob"].prompts), ())
    }


@pytest.mark.parametrize("count", [1, 3])
def test_logins_at_once_never_share_the_last_one(scene: Scene, count: int) -> None:
    scene.configure(f"[policy]\nlogins_left = {count}")
    codes = Counter(scene.host.together("carol", [THREE] * 6))
    assert codes["IGNORE"] == count, codes
    assert codes["MAXTRIES"] + codes["AUTHINFO_UNAVAIL"] == 6 - count, codes
    assert scene.login("carol", *THREE).code == "MAXTRIES"
    assert sql(scene.machine, "SELECT used - (1 << 62) FROM grace").strip() == f"({count},)"


def begin(scene: Scene, user: str = "carol", **options: Any) -> str:
    """A login up to its first prompt."""
    scene.host.begin(user, **options)
    return scene.host.prompt()


def test_a_login_enrols_and_lets_in(scene: Scene) -> None:
    scene.configure(ENROLS)
    login = enrolled_by_login(scene)
    assert (login.code, login.shown, len(login.prompts)) == ("SUCCESS", [NEEDED], 2)
    record = scene.expect_record(0)
    assert (record["outcome"], record["reason"], record["factor"]) == ("GRANTED", "proven_enrolled", "totp")
    noted = records(scene.machine, "enroll")
    assert [(each["outcome"], each["reason"], each["factor"], each["user"]) for each in noted] == [
        ("DONE", "enrolled", "totp", "carol"), ("DONE", "enrolled", "recovery", "carol"),
    ]  # fmt: skip
    assert {each["role"] for each in noted} == {scene.side}
    carol = scene.people["carol"]
    spent = carol.tokens[0].at(carol.tokens[0].used)
    assert scene.login("carol", spent, spent, spent).code == "MAXTRIES"
    assert scene.login("carol", carol.code()).code == "SUCCESS"
    assert scene.login("carol", carol.recovery[7]).code == "SUCCESS"
    assert not [line for line in scene.machine.journal() if carol.tokens[0].secret in line or carol.recovery[7] in line]


def test_three_wrong_codes_enrol_nothing(scene: Scene) -> None:
    scene.configure(f"{ENROLS}help = '{CALL}'")
    login = scene.login("carol", *THREE)
    assert (login.code, scene.reason, login.shown) == ("MAXTRIES", "not_enrolled", [NEEDED, CALL])
    assert "carol" not in str(manage(scene.machine, "accounts"))
    assert enrolled_by_login(scene).code == "SUCCESS"


def test_who_leaves_before_the_code_has_enrolled_nothing_and_after_it_is_enrolled(scene: Scene) -> None:
    scene.configure(ENROLS)
    assert scene.login("carol", None).code == "CONV_ERR"
    assert records(scene.machine, "enroll") == []
    carol = scene.people["carol"]
    scene.host.answer(take_secret(carol, begin(scene)))
    take_codes(carol, scene.host.prompt())
    scene.host.answer(None)
    assert scene.host.end().code == "CONV_ERR"
    assert scene.login("carol", carol.recovery[0]).code == "SUCCESS"
    assert len(records(scene.machine, "enroll")) == 2


def test_of_two_logins_that_enrol_at_once_one_does(scene: Scene) -> None:
    scene.configure(ENROLS)
    carol, other = scene.people["carol"], account(scene.up(), "carol")
    with Host(scene.machine) as second:
        second.begin("carol")
        late = take_secret(other, second.prompt())
        assert enrolled_by_login(scene).code == "SUCCESS"
        second.answer(late)
        assert second.end().code == "AUTHINFO_UNAVAIL"
    assert scene.login("carol", other.code(), "", "").code == "MAXTRIES"
    assert scene.login("carol", carol.code()).code == "SUCCESS"


@pytest.mark.parametrize(
    "settings",
    [
        f"{ENROLS}first_factor = 'none'",
        f"{ENROLS}methods = ['recovery']",
        f"first_enrolment = 'ticket'\n{ENROLS}",
        f"enrol_from = {{ networks = ['192.0.2.0/24'] }}\n{ENROLS}",
        f"enrol_from = {{ services = ['other'] }}\n{ENROLS}",
    ],
)
def test_where_a_login_enrols_nobody(scene: Scene, settings: str) -> None:
    scene.configure(settings)
    login = scene.login("carol", *THREE)
    assert (login.code, login.prompts[0], NEEDED in login.shown) == ("MAXTRIES", CODE, False)
    login = scene.login("unknown", *THREE)
    assert (login.code, login.prompts[0], NEEDED in login.shown) == ("MAXTRIES", CODE, False)


def test_from_the_right_network(scene: Scene) -> None:
    scene.configure(f"enrol_from = {{ networks = ['192.0.2.0/24'], services = ['m?a'] }}\n{ENROLS}")
    assert begin(scene, rhost="198.51.100.7") == CODE
    scene.host.answer(None)
    scene.host.end()
    assert begin(scene, rhost="192.0.2.7") != CODE
    scene.host.answer(None)
    scene.host.end()
    assert begin(scene, tty="tty1") != CODE  # whoever sits here is in all networks


def test_the_subject_is_somebody_else(scene: Scene) -> None:
    """Whoever runs su enrols at a login of their own."""
    scene.configure(f"{ENROLS}subject = 'caller'")
    login = scene.login("bob", *THREE, ruser="carol")
    assert (login.code, login.prompts[0]) == ("MAXTRIES", CODE)


def test_a_host_of_the_users_own_enrols_nobody(machine_of_people: Machine, town: Town) -> None:
    """It could have shown anything, and asked for nothing."""
    configure(machine_of_people, ENROLS)
    machine_of_people.service.start()
    with Host(machine_of_people, "carol") as host:
        login = host.login("carol", *THREE)
    assert (login.code, login.prompts[0], login.shown) == ("MAXTRIES", CODE, [])
