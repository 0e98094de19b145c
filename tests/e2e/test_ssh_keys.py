"""Credit for what sshd proved: real sshd, ssh and ssh-keygen, with keys of libfido2 in software."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from e2e.keyed import shown_list
from e2e.site_machine import SiteMachine
from e2e.sk_keys import CREDIT, FOLDER, PIN, RULE, TOUCHED, TRUST, VERIFIED, Laptop, enrol, start
from hosts import records
from vdev import keys as vdev_keys
from vdev.keys import Key, Keys

from pam_mfa.importers import authorized_keys as importer

CODE = "Verification code: "
ALICE = "\r\nalice\r\n"
KINDS = ["ed25519-sk", "ecdsa-sk"]


@pytest.fixture
def testbed(site: SiteMachine) -> Iterator[Keys]:
    """An empty one."""
    if lack := vdev_keys.missing():
        pytest.skip(lack)
    with Keys(site.machine.command, site.machine.path, site.terminals.happened) as keys:
        yield keys


@pytest.fixture
def blue(testbed: Keys) -> Key:
    """alice's key."""
    return testbed.key("blue")


@pytest.fixture
def laptop(site: SiteMachine, testbed: Keys, blue: Key) -> Laptop:
    """Where it is plugged in."""
    return Laptop(site, testbed)


def opens(site: SiteMachine, laptop: Laptop, *more: str, logins: int = 1) -> None:
    """The login needs no prompt, and says why."""
    said = laptop.ssh("id_sk", *more).ends_with(0)
    assert CODE not in said
    assert said.endswith(ALICE)
    record = site.last_record(logins)
    assert (record["outcome"], record["factor"], record["role"]) == ("GRANTED", "ssh-key", site.side)


def asked(site: SiteMachine, laptop: Laptop, *more: str, name: str = "id_sk", logins: int = 1) -> None:
    """The login goes on with the prompt, and a right code opens."""
    ssh = laptop.ssh(name, *more)
    ssh.answer(CODE, site.alice.code())
    assert ssh.ends_with(0).endswith(ALICE)
    assert site.last_record(logins)["factor"] == "totp"


def enrolled(site: SiteMachine, laptop: Laptop, *more: str, kind: str = "ed25519-sk", pin: str = "") -> str:
    """alice's key, known to sshd and to us; where its public half is."""
    path = laptop.make("id_sk", kind, pin=pin)
    laptop.authorize(laptop.public(path))
    enrol(site, path, "--name", "laptop", *more).ends_with(0)
    return path


def reported(site: SiteMachine, *arguments: str) -> list[tuple[int, str, str]]:
    """What root's `pam-mfa` says of each key: line, state, and what there is to say of it."""
    done = site.machine.run(["/usr/bin/pam-mfa", *arguments, "--json"], check=False)
    assert done.returncode == 3
    found = map(json.loads, done.stdout.splitlines())
    return [(each["line"], each["state"], each["why"] or each["note"]) for each in found]


def certified(site: SiteMachine, path: str, *options: str) -> None:
    """A certificate over alice's key, and nothing else that sshd knows of her."""
    script = f"""
        test -e /etc/ssh/ca || ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ca
        ssh-keygen -q -s /etc/ssh/ca -I alices -n alice {" ".join(options)} {path}
        chmod 0644 {FOLDER}/id_sk-cert.pub; : > {FOLDER}/authorized_keys
    """
    site.machine.run(["/bin/sh", "-euc", script])


@pytest.mark.parametrize("kind", KINDS)
def test_a_touched_key_opens_without_a_prompt(site: SiteMachine, laptop: Laptop, blue: Key, kind: str) -> None:
    start(site)
    enrolled(site, laptop, kind=kind)
    blue.inject(touch="manual")
    ssh = laptop.ssh()
    blue.wait_for_user()
    blue.touch()
    assert CODE not in ssh.ends_with(0)
    record = site.last_record(1)
    assert (record["outcome"], record["factor"], record["label"]) == ("GRANTED", "ssh-key", "laptop")


def test_the_story(site: SiteMachine, laptop: Laptop) -> None:
    path = laptop.make()
    laptop.authorize(laptop.public(path))
    start(site)
    with site.terminals.story("ssh-key" if site.side == "service" else "ssh-key-by-root"):
        enrol(site, path, "--name", "laptop").ends_with(0)
        shown_list(site, None)
        laptop.ssh().ends_with(0)
        explain = ["/usr/bin/pam-mfa", "explain", "--user", "alice", "--service", "sshd", "--rhost", "192.0.2.7"]
        site.terminals.run([*explain, "--ssh-key", path], user=None).ends_with(0)
        site.terminals.run([*explain, "--public-key"], user=None).ends_with(0)
        site.terminals.run(["/usr/bin/pam-mfa", "remove", "--user", "alice", "laptop"], user=None).ends_with(0)
        asked(site, laptop, logins=2)


def test_a_plain_key_is_asked_for_a_code(site: SiteMachine, laptop: Laptop) -> None:
    start(site)
    enrolled(site, laptop)
    laptop.authorize(laptop.public(f"{FOLDER}/id_ed25519.pub"))
    asked(site, laptop, name="id_ed25519")


def test_a_security_key_that_is_not_enrolled_is_asked_for_a_code(site: SiteMachine, laptop: Laptop) -> None:
    start(site)
    laptop.authorize(laptop.public(laptop.make()))
    asked(site, laptop)


@pytest.mark.parametrize(("config", "rule"), [("", RULE), (CREDIT, ""), (CREDIT, "credit_ssh_keys = false\n")])
def test_without_the_settings_a_code_is_asked_for(site: SiteMachine, laptop: Laptop, config: str, rule: str) -> None:
    start(site, config=config, rule=rule)
    enrolled(site, laptop)
    asked(site, laptop)


@pytest.mark.parametrize("line", ["no-touch-required ", ""])
def test_sshd_takes_no_untouched_key_where_it_demands_a_touch(site: SiteMachine, laptop: Laptop, line: str) -> None:
    """PubkeyAuthOptions touch-required stands above a user's own line; sshd_touch_required says that it is set."""
    path = laptop.make("id_sk", "ed25519-sk", "no-touch-required")
    laptop.authorize(line + laptop.public(path))
    start(site)
    enrol(site, path).ends_with(0)
    laptop.ssh("id_sk", "-o", "BatchMode=yes").ends_with(255)
    assert records(site.machine) == []


def test_sshd_takes_an_untouched_key_where_it_does_not(site: SiteMachine, laptop: Laptop, blue: Key) -> None:
    """Why it has to be set."""
    path = laptop.make("id_sk", "ed25519-sk", "no-touch-required")
    laptop.authorize("no-touch-required " + laptop.public(path))
    start(site, options="", config="")
    enrol(site, path).ends_with(0)
    blue.inject(touch="deny")
    asked(site, laptop)


@pytest.mark.parametrize("kind", KINDS)
def test_a_certificate_over_an_enrolled_key_opens(site: SiteMachine, laptop: Laptop, kind: str) -> None:
    start(site, TOUCHED + TRUST)
    path = enrolled(site, laptop, kind=kind)
    certified(site, path)
    opens(site, laptop)


def test_a_certificate_that_needs_no_touch_is_asked_for_a_code(site: SiteMachine, laptop: Laptop) -> None:
    start(site, TOUCHED + TRUST)
    path = enrolled(site, laptop)
    certified(site, path, "-O", "no-touch-required")
    asked(site, laptop)


def test_where_its_user_has_to_be_verified(site: SiteMachine, testbed: Keys) -> None:
    testbed.key("blue", pin=PIN, always_uv=True)
    laptop = Laptop(site, testbed)
    start(site, VERIFIED, rule=f'{RULE}user_verification = "required"\n')
    path = enrolled(site, laptop, pin=PIN)
    ssh = laptop.ssh()
    ssh.answer("Enter PIN for ED25519-SK key", PIN)
    ssh.answer(CODE, site.alice.code())  # it was not enrolled as one that verifies
    ssh.ends_with(0)
    site.terminals.run(["/usr/bin/pam-mfa", "remove", "--user", "alice", "laptop"], user=None).ends_with(0)
    enrol(site, path, "--verify", "--name", "verified").ends_with(0)
    ssh = laptop.ssh()
    ssh.answer("Enter PIN for ED25519-SK key", PIN)
    assert CODE not in ssh.ends_with(0)
    assert site.last_record(2)["label"] == "verified"


def test_sshd_takes_no_unverified_key_where_it_demands_that(site: SiteMachine, laptop: Laptop) -> None:
    start(site, VERIFIED)
    enrolled(site, laptop)
    laptop.ssh("id_sk", "-o", "BatchMode=yes").ends_with(255)
    assert records(site.machine) == []


def test_authorized_keys_are_taken_over(site: SiteMachine, laptop: Laptop) -> None:
    start(site)
    first, second = laptop.public(laptop.make()), laptop.public(laptop.make("other", "ecdsa-sk"))
    plain = laptop.public(f"{FOLDER}/id_ed25519.pub")
    laptop.authorize("# mine", f'from="127.0.0.1",verify-required {first}', f"no-touch-required {second}", plain)
    look = ["import", "authorized-keys", f"{FOLDER}/authorized_keys", "--user", "alice"]
    assert reported(site, *look) == [
        (2, "ready", ""),
        (3, "refused", importer.UNTOUCHED),
        (4, "refused", importer.PLAIN),
    ]
    taken = reported(site, *look, "--allow-no-touch", "--apply")
    assert taken == [(2, "imported", ""), (3, "imported", importer.TOUCHED), (4, "refused", importer.PLAIN)]
    shown = shown_list(site, None)
    assert [word in shown for word in ("verify-required", "ssh key 1", "ssh key 2", "ssh key 3")] == [True] * 3 + [
        False
    ]
    laptop.authorize(first)
    opens(site, laptop)
