"""Recovery codes: how they look, how people write them, each used once, a new set ends the old one."""

from __future__ import annotations

import hmac
import re
import string

import pytest
from flows import ALICE, SESSION, Clock, Memory, World, account, mac, recovery
from hypothesis import given, strategies as st

from pam_mfa.factors import code
from pam_mfa.factors.base import Ceremony, Enrolment
from pam_mfa.factors.recovery import ALPHABET, LENGTH, SET, Recovery, remaining
from pam_mfa.outcome import Proof
from pam_mfa.store.base import Burn
from pam_mfa.structure import replace

FACTOR = Recovery(mac)
NOW = Clock()()
CODES = [(char * LENGTH) for char in ALPHABET[1 : SET + 1]]
codes = st.text(ALPHABET, min_size=LENGTH, max_size=LENGTH)


def enrol() -> tuple[list[str], World]:
    world = World(Memory())
    made = world.run(FACTOR.enrol(Enrolment(ALICE, "alice", "ab" * 16, "codes", "host", Clock())))
    assert made.reveal is not None
    assert made.reveal["kind"] == "recovery"
    for written, number in zip(made.reveal["codes"], range(SET), strict=True):
        assert FACTOR.match(made.credential, written, NOW) == Burn("ab" * 16, number)
    return list(made.reveal["codes"]), world


# ---------------------------------------------------------------------------------------------- the set


def test_ten_codes_of_six_groups_of_four() -> None:
    written, world = enrol()
    assert len(set(written)) == SET == 10
    for one in written:
        assert re.fullmatch(r"([0-9A-HJKMNP-TV-Z]{4}-){5}[0-9A-HJKMNP-TV-Z]{4}", one)
    assert world.wants == []  # nothing is shown before it is stored


def test_codes_have_120_random_bits() -> None:
    """R07: the whole alphabet is used, and nothing comes twice."""
    assert len(ALPHABET) == len(set(ALPHABET)) == 32
    written = [one for _ in range(30) for one in enrol()[0]]
    assert len(set(written)) == 300
    assert set("".join(written)) - {"-"} == set(ALPHABET)


def test_only_hashes_are_stored() -> None:
    world = World(Memory())
    made = world.run(FACTOR.enrol(Enrolment(ALICE, "alice", "ab" * 16, "codes", "host", Clock())))
    assert made.reveal is not None
    assert len(made.credential.material) == SET * 32
    for written in made.reveal["codes"]:
        folded = written.replace("-", "")
        assert folded.encode() not in made.credential.material
        assert mac(folded.encode()) in made.credential.material
        assert folded not in repr(made)
        assert written not in repr(made)


# ------------------------------------------------------------------------------------------------- form


def garble(one: str, draw: st.DataObject) -> str:
    """As somebody may write it down and type it in."""
    instead = {"0": "0Oo", "1": "1IiLl"}
    written = ""
    for char in one:
        written += draw.draw(st.sampled_from(["", "-", " ", "- ", "--"]))
        written += draw.draw(st.sampled_from(instead.get(char, char + char.lower())))
    return written + draw.draw(st.sampled_from(["", " ", "-"]))


@given(codes, st.data())
def test_case_spaces_dashes_and_look_alikes_do_not_matter(one: str, data: st.DataObject) -> None:
    written = garble(one, data)
    assert FACTOR.fits(written)
    assert FACTOR.match(recovery([*CODES[:9], one]), written, NOW) == Burn("c0de" * 8, 9)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "-" * 24,
        "A" * 23,
        "A" * 25,
        "U" * 24,
        "A" * 23 + "U",
        "A" * 23 + "\n",
        "A" * 24 + "\n",
        "A" * 23 + "\t",
        "A" * 23 + "_",
        "A" * 23 + "\0",
        "A" * 23 + "é",
        "Ａ" * 24,
        "１" * 24,
        "ß" * 12,  # upper() makes two letters of each
        "ŉ" * 12,
        "\u0131" * 24,
        "\u200b" + "A" * 24,
        "\udc41" * 24,
        "123456",
        "A" * 2**20,
        "-" * 2**20,
    ],
    ids=lambda answer: ascii(answer[:26]),
)
def test_nothing_else_is_a_code(answer: str) -> None:
    assert not FACTOR.fits(answer)


@given(st.text())
def test_what_fits_is_24_characters_of_the_alphabet(answer: str) -> None:
    written = answer.replace("-", "").replace(" ", "")
    proper = len(written) == LENGTH and set(written.upper()) <= set(string.ascii_uppercase + string.digits) - {"U"}
    assert FACTOR.fits(answer) is (answer.isascii() and proper)


# ---------------------------------------------------------------------------------------------- matching


def test_every_hash_is_compared_whichever_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """R17."""
    compared: list[bytes] = []
    real = hmac.compare_digest

    def noted(one: bytes, other: bytes) -> bool:
        compared.append(other)
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", noted)
    for answer in (CODES[0], CODES[9], "Z" * 24):
        compared.clear()
        FACTOR.match(recovery(CODES), answer, NOW)
        assert len(compared) == SET


def test_another_key_makes_other_hashes() -> None:
    assert Recovery(lambda data: mac(b"other" + data)).match(recovery(CODES), CODES[0], NOW) is None


def test_damaged_material_fits_nothing() -> None:
    assert FACTOR.match(replace(recovery(CODES), material=b""), CODES[0], NOW) is None
    assert FACTOR.match(replace(recovery(CODES), material=b"\0" * 31), CODES[0], NOW) is None


# ------------------------------------------------------------------------------------------------- login


def prove(store: Memory, *answers: str) -> tuple[Proof | None, World]:
    ceremony = Ceremony(SESSION, ALICE, store.accounts[ALICE], Clock())
    world = World(store, (answers * 3)[:3])
    return world.run(code.prove(ceremony, (FACTOR,))), world


def test_each_code_works_once_and_what_is_left_is_told() -> None:
    store = Memory(account(recovery(CODES)))
    for used, one in enumerate(CODES, start=1):
        proof, world = prove(store, one)
        assert proof is not None
        assert proof.factor == "recovery"
        left = SET - used
        hint = " Make new ones with: pam-mfa recovery --new" if left <= 3 else ""
        assert world.told == [f"Recovery code used: {left} left.{hint}"]
        assert "code" not in hint or left <= 3
        assert one not in world.told[0]
        assert FACTOR.details(store.accounts[ALICE].credentials[0]) == {"left": left, "of": SET}
        again, world = prove(store, one)
        assert again is None
        assert world.told == []
        store.forgive(ALICE)
    assert remaining(store.accounts[ALICE].credentials[0]) == 0


def test_a_code_in_other_letters_is_the_same_code() -> None:
    store = Memory(account(recovery(["00111" + "A" * 19, *CODES[1:]])))
    assert prove(store, "oOiIl" + "a" * 19)[0]
    assert prove(store, "00111" + "A" * 19)[0] is None
    assert prove(store, "0 0-1 1 1" + "A" * 19)[0] is None


def test_a_new_set_ends_the_old_one() -> None:
    fresh = [(char * LENGTH) for char in ALPHABET[-SET:]]
    store = Memory(account(recovery(fresh)))
    for old in CODES:
        assert prove(store, old)[0] is None
        store.forgive(ALICE)
    assert prove(store, fresh[0])[0]


def test_marks_do_not_come_from_a_clock() -> None:
    assert FACTOR.ceiling(recovery(CODES, mark=1023), NOW) is None
