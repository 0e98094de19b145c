"""What the settings of sshd mean for us: made up, and as the real sshd prints them."""

from __future__ import annotations

import grp
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from pam_mfa.cli.checks import sshd, sshd_match
from pam_mfa.cli.checks.finding import Severity
from pam_mfa.cli.checks.sshd import Wanted
from pam_mfa.cli.paths import Paths

from .installed import write

GOOD = {
    "usepam": "yes",
    "pamservicename": "sshd",
    "kbdinteractiveauthentication": "yes",
    "passwordauthentication": "no",
    "pubkeyauthentication": "yes",
    "gssapiauthentication": "no",
    "hostbasedauthentication": "no",
    "logingracetime": "120",
    "maxstartups": "10:30:100",
    "persourcepenalties": "crash:90 authfail:5 noauth:1 grace-exceeded:10 max:600 min:15 overflow:permissive",
    "authenticationmethods": "publickey,keyboard-interactive keyboard-interactive:pam",
}
ANY = {"authenticationmethods": "any", "pubkeyauthentication": "no"}


def judged(wanted: Wanted = sshd.ORDINARY, /, **settings: str) -> list[tuple[Severity, str]]:
    text = "".join(f"{key} {value}\n" for key, value in {**GOOD, **settings}.items())
    found = list(sshd.judge(text, wanted))
    assert all(finding.fix for finding in found)
    return [(finding.severity, finding.found) for finding in found]


def test_both_key_and_code() -> None:
    assert judged() == []


@pytest.mark.parametrize(
    ("settings", "severity", "words"),
    [
        ({"usepam": "no"}, Severity.BAD, "UsePAM"),
        ({"pamservicename": "ssh-of-mine"}, Severity.BAD, "the PAM service ssh-of-mine"),
        ({"kbdinteractiveauthentication": "no"}, Severity.BAD, "keyboard-interactive"),
        ({"logingracetime": "30"}, Severity.WARN, "LoginGraceTime"),
        ({"maxstartups": "3:30:60"}, Severity.WARN, "as soon as 3 users"),
        ({"persourcepenalties": "authfail:3600 grace-exceeded:10 min:15"}, Severity.WARN, "for one wrong code"),
        ({"persourcepenalties": "authfail:5 grace-exceeded:20.0 min:15.0"}, Severity.WARN, "that waited too long"),
        ({"persourcepenalties": "authfail:5 grace-exceeded:10 min:5"}, Severity.WARN, "for one wrong code"),
        ({"authenticationmethods": "any"}, Severity.WARN, "a login by publickey is"),
        ({**ANY, "hostbasedauthentication": "yes"}, Severity.WARN, "a login by hostbased is"),
        ({"authenticationmethods": "publickey publickey,keyboard-interactive"}, Severity.WARN, "by publickey is"),
        ({"authenticationmethods": "publickey,password"}, Severity.WARN, "by publickey,password is"),
        ({**ANY, "passwordauthentication": "yes"}, Severity.WARN, "plain password"),
    ],
)  # fmt: skip
def test_what_goes_past_us(settings: dict[str, str], severity: Severity, words: str) -> None:
    found = judged(**settings)
    assert any(each == severity and words in text for each, text in found), found


@pytest.mark.parametrize(
    "settings",
    [
        {"logingracetime": "0"},
        {"logingracetime": "90"},
        {"passwordauthentication": "yes"},
        {"maxstartups": "100"},
        {"maxstartups": ""},
        {"persourcepenalties": "no"},
        {"persourcepenalties": ""},
        {"persourcepenalties": "authfail:0 grace-exceeded:0 min:0"},
        {"persourcepenalties": "authfail:much min:15"},
    ],
)
def test_what_is_no_harm(settings: dict[str, str]) -> None:
    assert judged(**settings) == []


def test_an_older_sshd_has_another_word() -> None:
    text = "".join(f"{key} {value}\n" for key, value in GOOD.items()).replace(
        "kbdinteractiveauthentication", "challengeresponseauthentication"
    )
    assert list(sshd.judge(text)) == []


def test_a_line_that_may_take_longer_needs_more_time() -> None:
    assert judged(Wanted(seconds=120)) == []
    (found,) = judged(Wanted(seconds=121))
    assert "LoginGraceTime 120" in found[1]


@pytest.mark.parametrize(
    ("methods", "refused"),
    [
        ("publickey,keyboard-interactive", []),
        ("keyboard-interactive", ["keyboard-interactive"]),
        ("publickey,keyboard-interactive keyboard-interactive,publickey", ["keyboard-interactive,publickey"]),
        ("password,keyboard-interactive", ["password,keyboard-interactive"]),
        ("any", ["keyboard-interactive"]),
    ],
)
def test_a_rule_that_wants_a_public_key_needs_sshd_to_ask_for_it_first(methods: str, refused: list[str]) -> None:
    settings = {"authenticationmethods": methods, "pubkeyauthentication": "no"}
    found = judged(Wanted(public_key='rule "ssh"'), **settings)
    assert found == [
        (Severity.WARN, f'a login by {chain} is always refused: rule "ssh" wants a public key first')
        for chain in refused
    ]


@pytest.mark.parametrize(
    ("methods", "open_ways"),
    [
        ("publickey,keyboard-interactive", []),
        ("hostbased,keyboard-interactive", []),
        ("keyboard-interactive:pam publickey,keyboard-interactive", ["keyboard-interactive"]),
        ("password,keyboard-interactive", ["password,keyboard-interactive"]),
        ("any", ["keyboard-interactive"]),
    ],
)
def test_a_rule_that_lets_pass_needs_something_else_that_asks(methods: str, open_ways: list[str]) -> None:
    settings = {"authenticationmethods": methods, "pubkeyauthentication": "no"}
    found = judged(Wanted(passing="[policy]"), **settings)
    assert found == [
        (Severity.BAD, f"by {way} whom [policy] lets pass gets in with nothing proven") for way in open_ways
    ]


CREDIT = Wanted(credit='rule "ssh"', touch_believed=True)
VERIFIED = replace(CREDIT, verified='rule "ssh"')
UNTOUCHED, UNVERIFIED = "it takes security keys that nobody touches", "it takes security keys without PIN"


@pytest.mark.parametrize(
    ("wanted", "options", "expected"),
    [
        (CREDIT, "touch-required", []),
        (CREDIT, "touch-required verify-required", []),
        (CREDIT, "none", [(Severity.BAD, UNTOUCHED)]),
        (CREDIT, "", [(Severity.BAD, UNTOUCHED)]),
        (CREDIT, "verify-required", [(Severity.BAD, UNTOUCHED)]),
        (CREDIT, "no-touch-required", [(Severity.BAD, UNTOUCHED)]),
        (VERIFIED, "touch-required verify-required", []),
        (VERIFIED, "touch-required", [(Severity.BAD, UNVERIFIED)]),
        (VERIFIED, "none", [(Severity.BAD, UNTOUCHED), (Severity.BAD, UNVERIFIED)]),
        (replace(CREDIT, touch_believed=False), "touch-required", [(Severity.WARN, 'rule "ssh" says')]),
        (replace(VERIFIED, touch_believed=False), "none", [(Severity.WARN, 'rule "ssh" says')]),
        (Wanted(touch_believed=True), "none", []),
    ],
)
def test_what_is_credited_has_to_be_demanded(
    wanted: Wanted, options: str, expected: list[tuple[Severity, str]]
) -> None:
    found = judged(wanted, pubkeyauthoptions=options)
    assert [severity for severity, _ in found] == [severity for severity, _ in expected]
    assert all(text.startswith(words) for (_, text), (_, words) in zip(found, expected, strict=True))


RULE = "[[rule]]\nname = 'ssh'\nservices = ['sshd']\ncredit_ssh_keys = true\n"


@pytest.mark.parametrize(
    ("settings", "credit", "verified", "believed"),
    [
        ("", "", "", False),
        (RULE, 'rule "ssh"', "", False),
        (f"sshd_touch_required = true\n{RULE}", 'rule "ssh"', "", True),
        (f"{RULE}user_verification = 'required'", 'rule "ssh"', 'rule "ssh"', False),
        (f"{RULE}exempt = true", "", "", False),
        (RULE.replace("sshd", "sudo"), "", "", False),
        ("[policy]\ncredit_ssh_keys = true", "[policy]", "", False),
        (f"[policy]\nuser_verification = 'required'\n{RULE}", 'rule "ssh"', 'rule "ssh"', False),
        ("nonsense", "", "", False),
    ],
)
def test_what_the_settings_want_of_sshd(root: Path, settings: str, credit: str, verified: str, believed: bool) -> None:
    write(root, "etc/pam-mfa/config.toml", settings)
    wanted = sshd._wanted(Paths(root), ())
    assert (wanted.credit, wanted.verified, wanted.touch_believed) == (credit, verified, believed)


# ----------------------------------------------------------------------------------------------- the real sshd

PLAIN = "UsePAM yes\nKbdInteractiveAuthentication yes\nPasswordAuthentication no\n"
BOTH = f"{PLAIN}AuthenticationMethods publickey,keyboard-interactive\n"
needs_sshd = pytest.mark.skipif(shutil.which("sshd", path="/usr/sbin") is None, reason="needs openssh-server")
# sshd wants /run/sshd, which only its unit makes: an own mount of /run, so that nothing of this system changes.
INSIDE = [
    "/usr/bin/unshare",
    "--mount",
    "/bin/sh",
    "-c",
    'mount -t tmpfs none /run && mkdir /run/sshd && exec "$@"',
    "sh",
]


@pytest.fixture
def config(root: Path) -> Path:
    """sshd's settings of a system at `root`."""
    key = root / "key"
    subprocess.run(["/usr/bin/ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", str(key)], check=True)
    write(root, "etc/ssh/sshd_config", f"HostKey {key}\n")
    return root / "etc/ssh/sshd_config"


@needs_sshd
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (BOTH, []),
        ("UsePAM no\nKbdInteractiveAuthentication no\nPasswordAuthentication no\nPubkeyAuthentication no\n",
         [Severity.BAD, Severity.BAD]),
        (PLAIN, [Severity.WARN]),
        (BOTH + "MaxStartups 5\nLoginGraceTime 1m\n", [Severity.WARN, Severity.WARN]),
    ],
)  # fmt: skip
def test_as_the_real_sshd_prints_them(config: Path, text: str, expected: list[Severity]) -> None:
    config.write_text(config.read_text() + text)
    found = [finding.severity for finding in sshd.judge(sshd.printed("-f", str(config), before=INSIDE))]
    assert found == expected


@needs_sshd
@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("PubkeyAuthOptions touch-required verify-required\n", 0),
        ("PubkeyAuthOptions verify-required touch-required\n", 0),
        ("PubkeyAuthOptions touch-required\n", 1),
        ("PubkeyAuthOptions none\n", 2),
        ("", 2),
    ],
)
def test_what_the_real_sshd_demands_of_security_keys(config: Path, text: str, count: int) -> None:
    config.write_text(config.read_text() + BOTH + text)
    found = list(sshd.judge(sshd.printed("-f", str(config), before=INSIDE), VERIFIED))
    assert [finding.severity for finding in found] == [Severity.BAD] * count


@needs_sshd
@pytest.mark.parametrize(
    ("conditions", "settings"),
    [
        ("User daemon", "AuthenticationMethods publickey"),
        ('user "dae*,!root"', "AuthenticationMethods publickey"),
        ("User=daemon", "AuthenticationMethods publickey"),
        ("Group daemon", "AuthenticationMethods publickey"),
        ("Address 10.0.0.0/8 User *", "AuthenticationMethods publickey"),
        ("Address !10.0.0.1,10.?.*", "AuthenticationMethods publickey"),
        ("Address 2001:db8::/32", "AuthenticationMethods publickey"),
        ("Host *.example.org LocalPort 2222", "AuthenticationMethods publickey"),
        ("LocalAddress 198.51.100.0/28", "KbdInteractiveAuthentication no"),
    ],
)
def test_what_holds_in_a_match_block_is_found(
    root: Path, config: Path, monkeypatch: pytest.MonkeyPatch, conditions: str, settings: str
) -> None:
    config.write_text(f"{config.read_text()}{BOTH}Match {conditions}  # why\n  {settings}\nMatch all\n")
    real = sshd.printed
    monkeypatch.setattr(sshd, "printed", lambda *more: real("-f", str(config), *more, before=INSIDE))
    (found,) = sshd._examine(Paths(root), sshd.ORDINARY)
    assert found.severity is not Severity.OK
    assert found.found.endswith(f"(/etc/ssh/sshd_config:6: Match {conditions.replace(chr(34), '')})")


@needs_sshd
def test_blocks_that_change_nothing_for_us_are_silent(
    root: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text(f"{config.read_text()}{PLAIN}Match User daemon\n  X11Forwarding no\nMatch all\n  PermitTTY yes\n")
    real = sshd.printed
    monkeypatch.setattr(sshd, "printed", lambda *more: real("-f", str(config), *more, before=INSIDE))
    (found,) = sshd._examine(Paths(root), sshd.ORDINARY)
    assert found.found == "a login by publickey is not asked for a second factor"


@needs_sshd
def test_settings_that_sshd_itself_refuses(root: Path, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text("UsePAM maybe\n")
    real = sshd.printed
    monkeypatch.setattr(sshd, "printed", lambda *more: real("-f", str(config), *more, before=INSIDE))
    (found,) = sshd._examine(Paths(root), sshd.ORDINARY)
    assert found.severity is Severity.WARN
    assert 'unsupported option "maybe"' in found.found
    assert found.fix.startswith("correct what it names")
    before = [*INSIDE[:-2], 'mount -t tmpfs none /run && exec "$@"', "sh"]
    write(root, "etc/ssh/sshd_config", f"HostKey {root}/key\n")
    monkeypatch.setattr(sshd, "printed", lambda *more: real("-f", str(config), *more, before=before))
    (found,) = sshd._examine(Paths(root), sshd.ORDINARY)
    assert found.fix.startswith("start sshd once")
    monkeypatch.setattr(sshd, "printed", real)
    monkeypatch.setattr(sshd, "PROGRAM", "/bin/no-such-sshd")
    (found,) = sshd._examine(Paths(root), sshd.ORDINARY)
    assert found.severity is Severity.WARN


# ------------------------------------------------------------------------------------------------ Match blocks


def test_blocks_are_found_where_sshd_looks_for_them(root: Path) -> None:
    write(
        root,
        "etc/ssh/sshd_config",
        "Include sshd_config.d/*.conf\nmatch  user a\n# Match user b\n  Match=user c\nMatcher x\n",
    )
    write(root, "etc/ssh/sshd_config.d/2.conf", "Include /etc/elsewhere absent\n")
    write(root, "etc/ssh/sshd_config.d/1.conf", "MATCH all\n")
    write(root, "etc/elsewhere", "Match Group d\nInclude /etc/elsewhere\n")
    places = list(map(str, sshd_match.blocks(Paths(root))))
    assert places[:2] == ["/etc/ssh/sshd_config.d/1.conf:1: Match all", "/etc/elsewhere:1: Match Group d"]
    assert places[-2:] == ["/etc/ssh/sshd_config:2: Match user a", "/etc/ssh/sshd_config:4: Match user c"]
    assert len(places) < 30, "a file that includes itself comes to an end"


@pytest.mark.parametrize(
    "conditions",
    [
        "all",
        "",
        "User !root",
        "Group nobody-is-in-it",
        "Address 10.0.0.0/99",
        "RDomain x",
        "User",
    ],
)
def test_blocks_for_which_no_connection_is_made_up(conditions: str) -> None:
    assert sshd_match.connection(sshd_match.Match("x:1", tuple(conditions.split())), lambda group: None) is None


def test_somebody_of_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sshd_match.member("daemon") == "daemon", "whose first group it is"
    assert sshd_match.member("no-such-group") is None
    of_two = grp.struct_group(("staff", "x", 50, ["carol", "bob"]))
    monkeypatch.setattr(grp, "getgrnam", lambda name: of_two)
    assert sshd_match.member("staff") == "carol"
