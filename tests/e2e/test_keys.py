"""Security keys in real sudo, as hidraw nodes.

Whoever enrols does so with `pam-mfa enroll fido2`: alice by the service, root for her where none runs.
"""

from __future__ import annotations

from e2e.keyed import (
    CODE,
    LOCAL,
    NAME,
    PAM_MFA,
    PIN,
    PROMPT,
    ROOT,
    TOUCH,
    VERIFIED,
    WRONG_PIN,
    asked,
    enrolled,
    touched,
)
from e2e.site_machine import SiteMachine
from vdev.keys import Keys


def test_a_key_is_enrolled_and_opens_sudo(site: SiteMachine, keys: Keys) -> None:
    site.start(LOCAL)
    blue = enrolled(site, keys.key("blue"))
    sudo = site.sudo()
    sudo.expect(TOUCH)
    touched(blue)
    assert sudo.ends_with(0) == ROOT
    assert asked(blue) == [False, True]
    record = site.last_record(1)
    assert (record["outcome"], record["role"], record["factor"]) == ("GRANTED", site.side, "fido2")
    assert record["label"] == NAME
    shown = site.machine.run([PAM_MFA, "list", "--user", "alice"]).stdout
    assert NAME in shown


def test_of_two_keys_the_right_one_blinks(site: SiteMachine, keys: Keys) -> None:
    site.start(LOCAL)
    blue = enrolled(site, keys.key("blue"))
    blue.remove()
    red = keys.key("red")
    red.inject(touch="never")
    blue.insert()
    sudo = site.sudo()
    sudo.expect(TOUCH)
    touched(blue)
    assert sudo.ends_with(0) == ROOT
    assert asked(red) == [False]


def test_another_key_opens_nothing(site: SiteMachine, keys: Keys) -> None:
    site.start(LOCAL)
    blue = enrolled(site, keys.key("blue"))
    blue.remove()
    red = keys.key("red")
    sudo = site.sudo()
    sudo.expect("Plug in your security key")
    blue.insert()
    sudo.expect(TOUCH)
    touched(blue)
    assert sudo.ends_with(0) == ROOT
    assert True not in asked(red)


def test_a_pin(site: SiteMachine, keys: Keys) -> None:
    site.start(VERIFIED)
    blue = enrolled(site, keys.key("blue", pin=PIN), PIN)
    sudo = site.sudo()
    sudo.answer(PROMPT, PIN)
    sudo.expect(TOUCH)
    touched(blue)
    assert sudo.ends_with(0) == ROOT
    assert PIN not in "".join(site.machine.journal())


def test_a_wrong_pin(site: SiteMachine, keys: Keys) -> None:
    """It is asked for once, costs the key one try, and says what it was."""
    site.start(VERIFIED)
    blue = enrolled(site, keys.key("blue", pin=PIN), PIN)
    sudo = site.sudo()
    sudo.answer(PROMPT, WRONG_PIN)
    sudo.expect("That was not the PIN of the security key: try again.")
    sudo.answer(CODE, site.alice.code())
    assert sudo.ends_with(0) == ROOT
    assert blue.state()["pin_tries"] == 7
    assert WRONG_PIN not in "".join(site.machine.journal())


def test_a_key_is_pulled_out_while_it_blinks(site: SiteMachine, keys: Keys) -> None:
    site.start(LOCAL)
    blue = enrolled(site, keys.key("blue"))
    sudo = site.sudo()
    sudo.expect(TOUCH)
    blue.wait_for_user()
    blue.remove()
    sudo.expect("The security key was removed: plug it in again.")
    blue.insert()
    sudo.expect(TOUCH)
    touched(blue)
    assert sudo.ends_with(0) == ROOT


def test_a_touch_is_declined(site: SiteMachine, keys: Keys) -> None:
    """The next method is asked for, and nothing of it counts as a wrong answer."""
    site.start(LOCAL)
    blue = enrolled(site, keys.key("blue"))
    blue.inject(touch="deny")
    sudo = site.sudo()
    sudo.expect("The request was declined on the security key")
    sudo.answer(CODE, site.alice.code())
    assert sudo.ends_with(0) == ROOT


def test_a_copied_key(site: SiteMachine, keys: Keys) -> None:
    site.start(LOCAL)
    blue = enrolled(site, keys.key("blue"))
    blue.inject(counter=1)
    sudo = site.sudo()
    sudo.expect(TOUCH)
    touched(blue)
    sudo.answer(CODE, site.alice.code())
    assert sudo.ends_with(0) == ROOT
    site.machine.wait_for_journal("reason=clone_suspect")
    shown = site.machine.run([PAM_MFA, "list", "--user", "alice"]).stdout
    assert "MAY HAVE BEEN COPIED" in shown


def test_a_key_that_lies(site: SiteMachine, keys: Keys) -> None:
    """Its answer counts as a wrong one; the code is asked for, and the wrong answers are not forgotten over it."""
    site.start(LOCAL)
    blue = enrolled(site, keys.key("blue"))
    blue.inject(touch="yes", bad_signature=True)
    sudo = site.sudo()
    sudo.expect("The answer of that security key was not accepted")
    sudo.answer(CODE, site.alice.wrong())
    sudo.answer(CODE, site.alice.wrong())
    sudo.expect("Sorry, try again.")
    assert site.outcomes(1) == ["TRIES_SPENT"]


def test_a_broken_key_holds_up_no_other(site: SiteMachine, keys: Keys) -> None:
    site.start(LOCAL)
    blue = enrolled(site, keys.key("blue"))
    for name, faults in (("mute", {"mute": True}), ("flood", {"flood": True}), ("deep", {"answer": {4: "deep"}})):
        keys.key(name).inject(**faults)
    sudo = site.sudo()
    sudo.expect(TOUCH)
    touched(blue)
    assert sudo.ends_with(0) == ROOT
