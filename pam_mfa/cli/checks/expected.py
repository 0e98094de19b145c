"""What the rules of the settings believe to be proven before us, held against what stands there."""

from __future__ import annotations

from collections.abc import Iterator

from ...config import Settings, load
from ...errors import ConfigError
from ...factors import methods, registry
from ...policy import Facts, conditions
from ...rules import FirstFactor, Rule, Unenrolled
from .. import paths
from ..pamfiles import Line
from ..paths import Paths
from . import stacks
from .finding import Finding, bad, warn

SSHD = "sshd"
SETTINGS = "in " + paths.SETTINGS


def settings(where: Paths) -> Settings | None:
    """What the file says; None where it says nothing that holds, which service.py tells."""
    try:
        return load(str(where.at(paths.SETTINGS)), methods(registry(lambda data: data)))[1]
    except ConfigError:
        return None


def possible(found: Settings, service: str) -> list[Rule]:
    """The rules that may be chosen for somebody at a service."""
    rules = []
    for rule in found.rules:
        of_rule = list(conditions(rule.match, Facts(service)))
        if any(each.key == "services" and not each.holds for each in of_rule):
            continue
        rules.append(rule)
        if all(each.key == "services" for each in of_rule):
            return rules
    return [*rules, found.policy]


def wanting_a_key(rules: list[Rule]) -> list[Rule]:
    """Those that refuse whoever showed sshd no public key."""
    return [rule for rule in rules if rule.first_factor is FirstFactor.PUBLICKEY]


def letting_pass(rules: list[Rule], lines: tuple[Line, ...]) -> list[Rule]:
    """Those that let some people in with nothing proven, as far as PAM knows."""
    found = [rule for rule in rules if rule.exempt or rule.unenrolled is Unenrolled.ALLOW]
    found = [rule for rule in found if rule.first_factor is not FirstFactor.PUBLICKEY]
    return found if found and stacks.lets_anybody_pass(lines) else []


def judge(service: str, lines: tuple[Line, ...], rules: list[Rule]) -> Iterator[Finding]:
    """Whether a service's stack proves what its rules believe.

    Args:
        lines: of the auth stack, one of them ours.
        rules: that may be chosen.
    """
    yield from _open(service, lines, rules) if service != SSHD else ()  # sshd.py knows what else sshd asks for
    yield from _unproven(service, lines, rules)
    wrong = wanting_a_key(rules) if service != SSHD else []
    if wrong:
        yield bad(
            f"pam {service}",
            f'{named(wrong)} says first_factor = "publickey", which only sshd can show: every login is refused',
            f'give {service} a rule with first_factor = "stack" {SETTINGS}',
        )


def _unproven(service: str, lines: tuple[Line, ...], rules: list[Rule]) -> Iterator[Finding]:
    """Rules that believe in a first factor which nobody asks for."""
    trusting = [rule for rule in rules if rule.first_factor is FirstFactor.STACK and not rule.exempt]
    enrolling = [rule for rule in trusting if rule.enrol_at_login and rule.unenrolled is Unenrolled.DENY]
    why = stacks.unproven(lines) if trusting else ""
    if why and enrolling:
        yield bad(
            f"pam {service}",
            f"{why}, but {named(enrolling)} says enrol_at_login: strangers can enrol an app of their own for a user",
            f"put the line behind one that checks the password and is requisite, or take enrol_at_login out {SETTINGS}",
        )
    elif why:
        yield warn(
            f"pam {service}",
            f'{why}, but {named(trusting)} says first_factor = "stack": strangers can use up a user\'s tries',
            _fix(service),
        )


def _open(service: str, lines: tuple[Line, ...], rules: list[Rule]) -> Iterator[Finding]:
    passing = letting_pass(rules, lines)
    if passing:
        place = next(filter(stacks.ours, lines)).place
        yield bad(
            f"pam {service}",
            f"{place}: nothing else asks for anything, so whom {named(passing)} lets pass gets in with nothing proven",
            f'put it behind a line that checks the password, or take exempt and unenrolled = "allow" out {SETTINGS}',
        )


def named(rules: list[Rule]) -> str:
    """The rules in words."""
    names = ["[policy]" if rule.name == "policy" else f'rule "{rule.name}"' for rule in rules]
    return " and ".join(names)


def _fix(service: str) -> str:
    other = "publickey" if service == SSHD else "none"
    return (
        "put the line behind one that checks the password and is requisite, or give the service a rule with "
        f'first_factor = "{other}" {SETTINGS}'
    )
