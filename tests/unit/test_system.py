"""Clocks and the user database."""

from __future__ import annotations

import grp
import os
import pwd
import time

import pytest

from pam_mfa.conversation import LookedUp, LookUp
from pam_mfa.errors import LookupFailed
from pam_mfa.service import system


def test_both_clocks() -> None:
    before, boot = time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)
    now = system.now()
    assert int(before) <= now.wall <= time.time()
    assert int(boot) <= now.boot <= time.clock_gettime(time.CLOCK_BOOTTIME)
    assert (type(now.wall), type(now.boot)) == (int, int)
    assert len(now.boot_id) == 36
    assert system.now().boot_id == now.boot_id


def test_the_name_of_a_uid() -> None:
    assert system.look_up(LookUp(uid=0)) == LookedUp("root")
    assert system.look_up(LookUp(uid=0xFFFF_FFF0)) == LookedUp(None)


def test_the_groups_of_a_user() -> None:
    found = system.look_up(LookUp(user="root"))
    assert (found.name, found.uid) == ("root", 0)
    assert grp.getgrgid(pwd.getpwnam("root").pw_gid).gr_name in found.groups


@pytest.mark.parametrize("user", ["no-such-user", "", "é", "a" * 256, "root:x", "../root"])
def test_nobody_has_no_groups(user: str) -> None:
    assert system.look_up(LookUp(user=user)) == LookedUp(None)


def test_secondary_groups_count_and_those_without_a_name_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getgrouplist", lambda user, gid: [gid, 0xFFFF_FF0, 12])
    names = {0: "root", 12: "man"}

    def by_number(number: int) -> grp.struct_group:
        if number not in names:
            raise KeyError(number)
        return grp.struct_group((names[number], "x", number, []))

    monkeypatch.setattr(grp, "getgrgid", by_number)
    assert system.look_up(LookUp(user="root")) == LookedUp("root", frozenset({"root", "man"}), 0)


@pytest.mark.parametrize("call", ["getpwuid", "getpwnam"])
def test_a_database_that_fails_is_no_answer(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(pwd, call, broken)
    with pytest.raises(LookupFailed):
        system.look_up(LookUp(uid=0) if call == "getpwuid" else LookUp(user="root"))
