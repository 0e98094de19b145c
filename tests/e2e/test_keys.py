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
    blinking,
    enrolled,
    shown_list,
    touch_opens,
    touched,
)
from e2e.site_machine import SiteMachine
from people import charge
from vdev.keys import Key, Keys

from pam_mfa.throttle import LIMIT


def test_a_key_is_enrolled_and_opens_sudo(site: SiteMachine, keys: Keys) -> None:
    site.start(LOCAL)
    with site.terminals.story("enroll" if site.side == "service" else "enroll-by-root"):
        blue = enrolled(site, keys.key("blue"))
        assert NAME in shown_list(site, "alice" if site.side == "service" else None)
    touch_opens(site.sudo(), blue)
    assert asked(blue) == [False, True]
    record = site.last_record(1)
    assert (record["outcome"], record["role"], record["factor"]) == ("GRANTED", site.side, "fido2")
    assert record["label"] == NAME


def test_of_two_keys_the_right_one_blinks(site: SiteMachine, blue: Key, keys: Keys) -> None:
    blue.remove()
    with site.terminals.story("sudo-two-keys"):
        red = keys.key("red")
        red.inject(touch="never")
        blue.insert()
        touch_opens(site.sudo(), blue)
    assert asked(red) == [False]


def test_another_key_opens_nothing(site: SiteMachine, blue: Key, keys: Keys) -> None:
    blue.remove()
    with site.terminals.story("sudo-another-key"):
        red = keys.key("red")
        sudo = site.sudo()
        sudo.expect("Plug in your security key")
        blue.insert()
        touch_opens(sudo, blue)
    assert True not in asked(red)


def test_a_pin(site: SiteMachine, keys: Keys) -> None:
    site.start(VERIFIED)
    blue = enrolled(site, keys.key("blue", pin=PIN), PIN)
    with site.terminals.story("sudo-pin"):
        sudo = site.sudo()
        sudo.answer(PROMPT, PIN)
        touch_opens(sudo, blue)
    assert PIN not in "".join(site.machine.journal())


def test_a_wrong_pin(site: SiteMachine, keys: Keys) -> None:
    """It is asked for once, costs the key one try, and says what it was."""
    site.start(VERIFIED)
    blue = enrolled(site, keys.key("blue", pin=PIN), PIN)
    with site.terminals.story("sudo-wrong-pin"):
        sudo = site.sudo()
        sudo.answer(PROMPT, WRONG_PIN)
        sudo.expect("That was not the PIN of the security key: try again.")
        sudo.answer(CODE, site.alice.code())
        assert sudo.ends_with(0) == ROOT
    assert blue.state()["pin_tries"] == 7
    assert WRONG_PIN not in "".join(site.machine.journal())


def test_a_key_is_pulled_out_while_it_blinks(site: SiteMachine, blue: Key) -> None:
    with site.terminals.story("sudo-unplugged"):
        sudo = blinking(site, blue)
        blue.remove()
        sudo.expect("The security key was removed: plug it in again.")
        blue.insert()
        touch_opens(sudo, blue)


def test_a_touch_is_declined(site: SiteMachine, blue: Key) -> None:
    """The next method is asked for, and nothing of it counts as a wrong answer."""
    blue.inject(touch="deny")
    with site.terminals.story("sudo-declined"):
        sudo = site.sudo()
        sudo.expect("The request was declined on the security key")
        sudo.answer(CODE, site.alice.code())
        assert sudo.ends_with(0) == ROOT


def test_a_copied_key(site: SiteMachine, blue: Key) -> None:
    blue.inject(counter=1)
    with site.terminals.story("sudo-copied-key"):
        sudo = site.sudo()
        sudo.expect(TOUCH)
        touched(blue)
        sudo.answer(CODE, site.alice.code())
        assert sudo.ends_with(0) == ROOT
    site.machine.wait_for_journal("reason=clone_suspect")
    shown = site.machine.run([PAM_MFA, "list", "--user", "alice"]).stdout
    assert "MAY HAVE BEEN COPIED" in shown


def test_a_key_that_lies(site: SiteMachine, blue: Key) -> None:
    """Its answer counts as a wrong one; the code is asked for, and the wrong answers are not forgotten over it."""
    blue.inject(touch="yes", bad_signature=True)
    sudo = site.sudo()
    sudo.expect("The answer of that security key was not accepted")
    sudo.answer(CODE, site.alice.wrong())
    sudo.answer(CODE, site.alice.wrong())
    sudo.expect("Sorry, try again.")
    assert site.outcomes(1) == ["TRIES_SPENT"]


def test_wrong_codes_lock_no_key(site: SiteMachine, blue: Key) -> None:
    """R03: strangers may have the codes disabled, and whoever has the key gets in."""
    charge(site.machine, site.alice, LIMIT)
    touch_opens(site.sudo(), blue)


def test_a_broken_key_holds_up_no_other(site: SiteMachine, blue: Key, keys: Keys) -> None:
    for name, faults in (("mute", {"mute": True}), ("flood", {"flood": True}), ("deep", {"answer": {4: "deep"}})):
        keys.key(name).inject(**faults)
    touch_opens(site.sudo(), blue)
