"""`pam-mfa explain` against the login itself: the same rule, words and PAM code, whatever the settings and facts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from ipaddress import ip_network
from typing import Any

import pytest
from cardflows import INSERT, ISSUING, enrolled as carded
from flows import ALICE, BOB, FACTORS, SESSION, Clock, Memory, World, account, code_at, recovery, ticket, totp
from hypothesis import HealthCheck, event, given, settings as tried, strategies as st
from keyflows import enrolled
from newcomers import from_app
from softkey import SoftKey
from ssh_keys import authinfo, blob, held, shown

from pam_mfa.assessment import Request
from pam_mfa.config import EnrolFrom, FirstEnrolment, Settings
from pam_mfa.conversation import About, Ask, AskSecret, Expired, Tell, Warn
from pam_mfa.enroll import Caller, Desk
from pam_mfa.errors import RefusedError
from pam_mfa.explain import explain
from pam_mfa.login import login
from pam_mfa.origin import UNKNOWN, Facts, Sessions
from pam_mfa.outcome import PAM_CODE, Outcome, Verdict
from pam_mfa.rollout import NEEDED
from pam_mfa.rules import FirstFactor, LocalKey, Match, Rule, Session, Subject, Unenrolled, UserVerification
from pam_mfa.store.rows import Account, Notice
from pam_mfa.structure import replace
from pam_mfa.throttle import FREE, LIMIT, Tally

KEY = SoftKey(verifies=True)
BLUE, PHONE, BOBS = enrolled(KEY), totp(), totp("bobs", BOB, "bob", secret=b"b" * 20)
CODES = {ALICE: code_at(PHONE, Clock()()), BOB: code_at(BOBS, Clock()())}
assert Clock().wall // 86400 == date(2023, 11, 14).toordinal() - date(1970, 1, 1).toordinal()
NAMES = {0: "root", ALICE: "alice", BOB: "bob"}
UIDS = {name: uid for uid, name in NAMES.items()}


def desk(settings: Settings, peer: int = 0, uid: int = ALICE) -> Desk:
    return Desk(Caller(SESSION, peer, uid, NAMES[uid], "host"), settings, FACTORS, Clock())


def explained(world: World, settings: Settings, uid: int = ALICE, peer: int = 0, **args: Any) -> Mapping[str, Any]:
    world.run(explain(desk(settings, peer, uid), {"service": "sudo", **args}))
    return world.records[-1]


# ----------------------------------------------------------------------------------------- a thousand cases

networks = st.lists(st.sampled_from([ip_network("192.0.2.0/24"), ip_network("2001:db8::/32")]), unique=True, max_size=1)
groups = st.sampled_from([(), ("staff",), ("staff", "!guests"), ("guests",)])
matches = st.builds(
    Match,
    services=st.sampled_from([(), ("sudo",), ("su", "su-l"), ("s*",)]),
    users=st.sampled_from([(), ("alice",), ("bob",), ("alice", "bob", "!bob")]),
    groups=groups,
    networks=networks.map(tuple),
    session=st.sampled_from([None, *Session]),
)
rules = st.builds(
    Rule,
    methods=st.sampled_from(
        [("fido2", "totp", "recovery"), ("totp",), ("fido2",), ("recovery", "fido2"), ("totp", "fido2")]
    ),
    unenrolled=st.sampled_from(Unenrolled),
    local_key=st.sampled_from(LocalKey),
    exempt=st.sampled_from([False, False, False, True]),
    subject=st.sampled_from(Subject),
    first_factor=st.sampled_from([FirstFactor.STACK, FirstFactor.STACK, *FirstFactor]),
    enrol_by=st.sampled_from([None, date(2023, 11, 13), date(2023, 11, 14), date(2023, 12, 1)]),
    lease=st.sampled_from([None, None, 60, 600]),
    logins_left=st.sampled_from([None, 0, 1, 3]),
    enrol_at_login=st.booleans(),
    help=st.sampled_from(["", "Call 0800 123"]),
    credit_ssh_keys=st.booleans(),
    user_verification=st.sampled_from([UserVerification.DISCOURAGED, UserVerification.REQUIRED]),
    match=matches,
)
froms = st.builds(EnrolFrom, networks=networks.map(tuple), services=st.sampled_from([(), ("sshd",), ("su*",)]))
everything = st.builds(
    Settings,
    policy=rules.map(lambda rule: replace(rule, match=Match())),
    rules=st.lists(rules, max_size=3).map(tuple),
    first_enrolment=st.sampled_from(FirstEnrolment),
    enrol_from=st.one_of(st.just(EnrolFrom()), froms),
    sshd_touch_required=st.booleans(),
)
LAPTOP = held()
TICKET, SPENT, OVER = ticket(), ticket(mark=1), ticket(valid=0)
accounts = st.sampled_from([
    (), (PHONE,), (BLUE,), (PHONE, recovery()), (BLUE, PHONE, recovery()), (LAPTOP,), (PHONE, held(verified=True)),
    (TICKET,), (BLUE, TICKET), (PHONE, TICKET), (SPENT,), (BLUE, OVER),
])  # fmt: skip
notices = st.sampled_from([(), (), (Notice(ALICE, "alice", "issued", "", True, 7),)])
# What sshd has taken: nothing, a key of which is not known which it is, an enrolled one.
KEYS: list[tuple[dict[str, Any], tuple[bytes, ...]]] = [
    ({}, ()), ({"public_key": True}, (b"publickey x",)), ({"ssh_key": shown(blob())}, (authinfo(blob()),)),
]  # fmt: skip
tallies = st.sampled_from([Tally(), Tally(), Tally(FREE + 1, Clock()()), Tally(LIMIT, Clock()())])
facts = st.sampled_from(
    [
        UNKNOWN, Facts(peer_remote=False), Facts(peer_remote=True), Facts(owner=Sessions(True, False)),
        *[Facts(peer_remote=remote, session="3", leader="1 1") for remote in (False, True, False, True)],
    ]
)  # fmt: skip
# Proven so many seconds ago, with whatever binding there is now; None for not at all.
lent = st.sampled_from([None, 0, 59, 100, 600])
at_a_terminal = st.fixed_dictionaries({
    "service": st.sampled_from(["sudo", "sudo-i", "su"]), "rhost": st.just(""), "tty": st.just("pts/3"),
    "ruser": st.sampled_from(["", "alice"]),
})  # fmt: skip
anywhere = st.fixed_dictionaries({
    "service": st.sampled_from(["sudo", "su", "sshd", "login"]),
    "rhost": st.sampled_from(["", "", "192.0.2.1", "2001:db8::1", "198.51.100.1", "far.example.org"]),
    "tty": st.sampled_from(["", "tty1", "pts/3", "ssh"]),
    "ruser": st.sampled_from(["", "alice", "bob", "root", "mallory"]),
})  # fmt: skip
items = st.one_of(at_a_terminal, anywhere)


def stored(credentials: tuple[Any, ...], failed: Mapping[str, Tally], news: tuple[Notice, ...]) -> Account:
    of = account(*credentials) if credentials else Account(ALICE, "alice")
    return replace(of, notices=news, tallies={factor: failed[factor] for factor in of.tallies})


def step(
    settings: Settings, request: Request, make: Any, answers: list[Any], device: list[Any]
) -> tuple[Verdict, World]:
    world = make(answers, device)
    return world.run(login(request, settings, FACTORS, Clock())), world


def words(world: World) -> str:
    """What the user saw first."""
    return next((want.text for want in world.wants if isinstance(want, Tell | Warn | Ask | AskSecret)), "")


@tried(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    settings=everything, uid=st.sampled_from([ALICE, BOB, 0]), credentials=accounts,
    failed=st.fixed_dictionaries(dict.fromkeys(("fido2", "totp", "recovery", "ssh-key", "ticket"), tallies)),
    items=items, where=facts, member=st.sampled_from([set(), {"staff"}, {"staff", "guests"}]),
    key=st.sampled_from(KEYS), ago=lent, used=st.integers(0, 3), news=notices,
)  # fmt: skip
def test_they_never_disagree(
    settings: Settings, uid: int, credentials: tuple[Any, ...], failed: Mapping[str, Tally], items: dict[str, str],
    where: Facts, member: set[str], key: tuple[dict[str, Any], tuple[bytes, ...]], ago: int | None, used: int,
    news: tuple[Notice, ...],
) -> None:  # fmt: skip
    def make(answers: list[Any], device: list[Any]) -> World:
        people = [stored(credentials, failed, news), account(BOBS, uid=BOB)]
        belongs = dict.fromkeys(NAMES.values(), member)
        store = Memory(*people, lent=None if ago is None else Clock().boot - ago)
        store.graced.update(dict.fromkeys(NAMES, used))
        return World(store, answers, NAMES, belongs, facts=where, device=device)

    world = make([], [])
    world.run(explain(desk(settings, 0, uid), {**key[0], **items}))
    said = world.records[-1]
    assert "Secret" not in said["sees"]
    assert not {"Commit", "AskSecret", "Ask", "Tell", "Warn", "Wait", "HangUp"} & set(world.kinds)
    ruser = items["ruser"] or (NAMES[uid] if items["service"] == "sudo" else "")
    asks = Request(SESSION, 0, user=NAMES[uid], uid=uid, host="host", authinfo=key[1], **{**items, "ruser": ruser})

    credited = said["entry"] == "prove" and said["methods"].get("ssh-key") == "credited"
    event(f"credited: {credited}")

    # Whoever answers right where they can.
    subject = UIDS.get(said["subject"], 0)
    usable = [method for method, state in said["methods"].items() if state == "open"]
    right = {"totp": CODES.get(subject, ""), "recovery": "A" * 24, "ticket": "T" * 16}
    answers: list[Any] = [right[method] for method in usable if method in right][:1] * 3 or [""] * 4
    if said["entry"] == "enrol":
        answers = [*["T" * 16][: settings.first_enrolment is FirstEnrolment.TICKET], from_app, ""]
    signs = "fido2" in usable
    device = [KEY.holds, KEY.touch, KEY.sign if signs else Expired(), Expired(), Expired()]
    verdict, real = step(settings, asks, make, answers, device)
    event(f"{said['code']} {said['reason']}")
    assert said["ago"] == (ago if said["reason"] == "lease" else None)
    assert PAM_CODE[verdict.outcome][0] == said["code"]
    assert words(real) == said["sees"]
    abouts = [want.user for want in real.wants if isinstance(want, About)]
    assert abouts == ([said["subject"]] if said["subject"] != said["user"] else [])
    # And whoever answers wrong.
    spoilt, _ = step(settings, asks, make, [""] * 4, [KEY.holds, KEY.touch, Expired(), Expired()])
    assert (spoilt.outcome is Outcome.EXEMPT) is (said["entry"] == "exempt")
    assert (spoilt.outcome is Outcome.GRANTED) is credited
    assert (verdict.factor == "ssh-key") is credited
    assert verdict.outcome is not Outcome.EXEMPT or verdict.reason == said["reason"]


# ------------------------------------------------------------------------------------------------ by hand

OFFICE = Rule(name="office", match=Match(groups=("staff",), networks=(ip_network("192.0.2.0/24"),)), exempt=True)


def test_every_rule_that_was_looked_at_with_every_condition() -> None:
    other = replace(OFFICE, name="other", match=Match(users=("bob",), groups=("staff",)))
    world = World(Memory(account(PHONE)), groups={"alice": {"staff"}})
    last = explained(world, Settings(rules=(other, OFFICE, other)), service="sshd", rhost="192.0.2.7")
    assert world.records[:-1] == [
        {"kind": "rule", "name": "other", "holds": False, "conditions": [
            {"key": "users", "wanted": "bob", "holds": False}, {"key": "groups", "wanted": "staff", "holds": True}]},
        {"kind": "rule", "name": "office", "holds": True, "conditions": [
            {"key": "networks", "wanted": "192.0.2.0/24", "holds": True},
            {"key": "groups", "wanted": "staff", "holds": True}]},
    ]  # fmt: skip
    assert (last["rule"], last["code"], last["entry"], last["reason"]) == ("office", "PAM_IGNORE", "exempt", "exempt")
    assert (last["sees"], last["local"]) == ("", False)


def test_the_policy_where_no_rule_holds() -> None:
    world = World(Memory(account(PHONE)))
    last = explained(world, Settings(rules=(OFFICE,)))
    assert [(r["name"], r["holds"]) for r in world.records[:-1]] == [("office", False), ("policy", True)]
    assert world.records[0]["conditions"][1]["holds"] is None  # no question to the user database for nothing
    assert last["methods"] == dict.fromkeys(last["methods"], "not enrolled") | {"totp": "open"}
    assert (last["sees"], last["code"]) == ("Verification code: ", "PAM_SUCCESS")


def test_a_lease_that_holds_and_one_that_does_not() -> None:
    here, settings = Facts(session="3", leader="1 1"), Settings(Rule(lease=600))
    for began, code, reason in ((4_500, "PAM_IGNORE", "lease"), (4_400, "PAM_SUCCESS", "enrolled")):
        world = World(Memory(account(PHONE), lent=began), facts=here)
        last = explained(world, settings, tty="pts/3")
        assert (last["code"], last["reason"], last["ago"]) == (code, reason, 500 if reason == "lease" else None)
    last = explained(World(Memory(account(PHONE), lent=4_500), facts=here), settings)
    assert (last["code"], last["sees"][:23]) == ("PAM_SUCCESS", "No terminal to ask on: ")


def test_a_key_elsewhere_and_here() -> None:
    for session, state, sees in (
        ("remote", "not at this host", "Verification code: "), ("local", "open", 'Touch your security key "blue nano"'),
    ):  # fmt: skip
        last = explained(World(Memory(account(BLUE))), Settings(), session=session)
        assert (last["methods"]["fido2"], last["sees"]) == (state, sees)


def test_who_is_rolled_out() -> None:
    """Whoever has no credential: let in, enrolled, asked in vain."""
    rule = Rule(logins_left=2, enrol_at_login=True)
    store = Memory()
    for used, code, reason in ((0, "PAM_IGNORE", "logins_left"), (2, "PAM_SUCCESS", "enrol_at_login")):
        store.graced[ALICE] = used
        last = explained(World(store), Settings(rule))
        assert (last["code"], last["reason"]) == (code, reason)
        assert last["sees"] == (NEEDED if used else last["sees"])
        assert store.graced[ALICE] == used
    assert not store.accounts
    last = explained(World(store), Settings(rule, first_enrolment=FirstEnrolment.TICKET))
    assert (last["code"], last["reason"], last["sees"]) == ("PAM_MAXTRIES", "unenrolled", "Verification code: ")


def test_a_card_that_is_not_there_is_asked_for() -> None:
    world = World(Memory(account(carded(ISSUING.leaf()))), facts=Facts(peer_remote=False))
    said = explained(world, Settings())
    assert (said["sees"], said["methods"]["smartcard"], said["code"]) == (INSERT, "open", "PAM_SUCCESS")


def test_a_ticket_is_shown_where_it_is_asked_for() -> None:
    keys = Rule(("fido2",), local_key=LocalKey.NEVER)
    for given_out, rule, state, sees in (
        (TICKET, keys, "open", "Verification code: "),
        (TICKET, Rule(("totp",)), "open", "Verification code: "),
        (TICKET, replace(keys, first_factor=FirstFactor.NONE), None, ""),
        (SPENT, keys, None, ""),
        (OVER, Rule(("totp",)), None, "Verification code: "),
    ):
        last = explained(World(Memory(account(BLUE, given_out))), Settings(rule))
        assert (last["methods"].get("ticket"), last["sees"]) == (state, sees)


def test_a_ticket_comes_before_the_enrolment_that_it_pays_for() -> None:
    settings = Settings(Rule(enrol_at_login=True), first_enrolment=FirstEnrolment.TICKET)
    last = explained(World(Memory(account(TICKET))), settings)
    assert (last["entry"], last["methods"]["ticket"], last["sees"]) == ("enrol", "open", "Verification code: ")
    last = explained(World(Memory(account(SPENT))), settings)
    assert (last["entry"], last["methods"].get("ticket"), last["sees"]) == ("prove", None, "Verification code: ")


HEARD = "Second factor: all that was enrolled removed by root, 1970-01-01 00:00 UTC"


def test_news_are_seen_first_by_who_is_asked_nothing() -> None:
    of = Account(ALICE, "alice", notices=(Notice(ALICE, "alice", "reset", "", True, 7),))
    for rule, sees in (
        (Rule(unenrolled=Unenrolled.ALLOW), HEARD),
        (Rule(exempt=True), ""),
    ):
        assert explained(World(Memory(of)), Settings(rule))["sees"] == sees


def test_what_stands_behind_codes_is_never_asked_for() -> None:
    """Codes are asked for until the tries are spent."""
    rule = Rule(("totp", "fido2", "recovery"), local_key=LocalKey.ALWAYS)
    last = explained(World(Memory(account(BLUE, PHONE, recovery()))), Settings(rule))
    assert last["methods"] == {"totp": "open", "fido2": "behind codes", "recovery": "behind codes"}


def test_a_long_list_is_cut() -> None:
    rule = Rule(match=Match(groups=tuple("é" * 250 for _ in range(50))))
    world = World(Memory())
    explained(world, Settings(rules=(rule,)))
    assert len(world.records[0]["conditions"][0]["wanted"]) == 256


@pytest.mark.parametrize(
    ("key", "state", "sees", "code"),
    [
        ({}, "not seen", "Verification code: ", "PAM_SUCCESS"),
        ({"public_key": True}, "not seen", "Verification code: ", "PAM_SUCCESS"),
        ({"ssh_key": shown(blob(application=b"ssh:x"))}, "not seen", "Verification code: ", "PAM_SUCCESS"),
        ({"ssh_key": shown(blob())}, "credited", "", "PAM_SUCCESS"),
    ],
)
def test_a_key_that_sshd_has_seen(key: dict[str, Any], state: str, sees: str, code: str) -> None:
    settings = Settings(Rule(credit_ssh_keys=True), sshd_touch_required=True)
    last = explained(World(Memory(account(LAPTOP, PHONE))), settings, service="sshd", **key)
    assert (last["methods"]["ssh-key"], last["sees"], last["code"]) == (state, sees, code)
    asked = explained(World(Memory(account(LAPTOP, PHONE))), settings, service="sudo", **key)
    assert ("ssh-key" in asked["methods"], asked["sees"]) == (False, "Verification code: ")


@pytest.mark.parametrize(("exempt", "code"), [(False, "PAM_SUCCESS"), (True, "PAM_IGNORE")])
def test_a_key_that_is_all_there_is(exempt: bool, code: str) -> None:
    settings = Settings(Rule(credit_ssh_keys=True, exempt=exempt), sshd_touch_required=True)
    last = explained(World(Memory(account(LAPTOP))), settings, service="sshd", ssh_key=shown(blob()))
    assert (last["sees"], last["code"]) == ("", code)


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ({"ssh_key": 1}, "invalid"),
        ({"ssh_key": None}, "invalid"),
        ({"ssh_key": "é"}, "invalid"),
        ({"ssh_key": "a\nb"}, "invalid"),
        ({"service": ""}, "invalid"),
        ({"service": 1}, "invalid"),
        ({"service": "a\nb"}, "invalid"),
        ({"service": "a" * 65}, "invalid"),
        ({"rhost": "é" * 200}, "invalid"),
        ({"tty": None}, "invalid"),
        ({"session": "ssh"}, "invalid"),
        ({"session": True}, "invalid"),
        ({"ruser": "bob"}, "not_allowed"),
        ({"ruser": "root"}, "not_allowed"),
    ],
)
def test_what_cannot_be_explained(args: dict[str, Any], code: str) -> None:
    world = World(Memory(account(PHONE)))
    with pytest.raises(RefusedError) as refused:
        explained(world, Settings(), peer=ALICE, **args)
    assert refused.value.code == code
    assert world.wants == []


def test_a_user_asks_as_its_own_caller() -> None:
    caller = Settings(Rule(subject=Subject.CALLER))
    assert (
        explained(World(Memory(account(PHONE))), caller, peer=ALICE, service="su", ruser="alice")["subject"] == "alice"
    )
    world = World(Memory(account(PHONE), account(BOBS, uid=BOB)))
    assert explained(world, caller, uid=BOB, service="su", ruser="alice")["subject"] == "alice"
