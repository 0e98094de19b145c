"""The seal key: nothing starts on one that is absent, odd, or in somebody else's hands."""

from __future__ import annotations

import pytest
from native.engine_machine import DAEMON, ENGINE, KEY, Ended, StubMachine

PATH = "/etc/pam-mfa/seal.key"
SPOILT = {
    "absent": f"rm {PATH}",
    "readable by its group": f"chmod 0440 {PATH}",
    "readable by all": f"chmod 0404 {PATH}",
    "writable by all": f"chmod 0602 {PATH}",
    "executable by others": f"chmod 0401 {PATH}",
    "of another owner": f"chown nobody {PATH}",
    "of the account": f"chown pam-mfa {PATH}",
    "too short": f"truncate -s 31 {PATH}",
    "too long": f"truncate -s 33 {PATH}",
    "empty": f"truncate -s 0 {PATH}",
    "a link": f"mv {PATH} /etc/key; ln -s /etc/key {PATH}",
    "a FIFO": f"rm {PATH}; mkfifo -m 0400 {PATH}",
    "a directory": f"rm {PATH}; mkdir -m 0700 {PATH}",
    "a device": f"rm {PATH}; mknod -m 0400 {PATH} c 1 5",
    "in a directory that its group may change": "chmod 0775 /etc/pam-mfa",
    "in a directory that all may change": "chmod 0757 /etc/pam-mfa",
    "in a directory of another owner": "chown nobody /etc/pam-mfa",
    "in a directory that is a link": "mv /etc/pam-mfa /etc/real; ln -s /etc/real /etc/pam-mfa",
    "without a directory": "rm -r /etc/pam-mfa",
}


def refused(ended: Ended) -> None:
    assert ended.status == 1
    assert ended.report == {}
    assert ended.stderr.startswith("pam-mfa: ")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("how", SPOILT)
def test_an_engine_without_a_good_key_does_not_start(box: StubMachine, how: str) -> None:
    box.run(["/bin/sh", "-c", SPOILT[how]])
    ended = box.session(code=None)
    refused(ended)
    assert "/etc/pam-mfa" in ended.stderr
    assert any("/etc/pam-mfa" in line for line in box.wait_for_journal("pam-mfa["))


@pytest.mark.parametrize("how", ["absent", "readable by all", "of the account", "a link", "too short"])
@pytest.mark.parametrize("argv", [[DAEMON], [ENGINE, "--prepare"]])
def test_nor_does_anything_else(box: StubMachine, how: str, argv: list[str]) -> None:
    box.run(["/bin/sh", "-c", SPOILT[how]])
    refused(box.to_end(argv))
    assert not box.path("/run/pam-mfa/priv.sock").exists()


@pytest.mark.parametrize("mode", ["0400", "0600"])
def test_a_good_key_is_what_python_reads(box: StubMachine, mode: str) -> None:
    box.run(["/bin/chmod", mode, PATH])
    ended = box.session(code=None)
    assert (ended.status, bytes.fromhex(ended.report["key"])) == (0, KEY)
