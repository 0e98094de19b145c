"""What the rules of the settings believe to be proven before us, held against what stands there."""

from __future__ import annotations

from collections.abc import Iterator

from ...config import Settings, load
from ...errors import ConfigError
from ...factors import registry
from ...policy import Facts, conditions
from ...rules import FirstFactor, Rule
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
        return load(str(where.at(paths.SETTINGS)), registry(lambda data: data))[1]
    except ConfigError:
        return None


def asking(found: Settings, service: str) -> list[Rule]:
    """The rules that may be chosen for somebody at a service, without those that ask for nothing."""
    return [rule for rule in _possible(found, service) if not rule.exempt]


def _possible(found: Settings, service: str) -> Iterator[Rule]:
    for rule in found.rules:
        of_rule = list(conditions(rule.match, Facts(service)))
        if any(each.key == "services" and not each.holds for each in of_rule):
            continue
        yield rule
        if all(each.key == "services" for each in of_rule):
            return
    yield found.policy


def judge(service: str, lines: tuple[Line, ...], rules: list[Rule]) -> Iterator[Finding]:
    """Whether a service's stack proves what its rules believe.

    Args:
        lines: of the auth stack, one of them ours.
        rules: as `asking` gives them.
    """
    subject = f"pam {service}"
    trusting = [rule for rule in rules if rule.first_factor is FirstFactor.STACK]
    why = stacks.unproven(lines) if trusting else ""
    if why:
        yield warn(
            subject,
            f'{why}, but {named(trusting)} says first_factor = "stack": strangers can use up a user\'s tries',
            _fix(service),
        )
    wrong = [rule for rule in rules if rule.first_factor is FirstFactor.PUBLICKEY and service != SSHD]
    if wrong:
        yield bad(
            subject,
            f'{named(wrong)} says first_factor = "publickey", which only sshd can show: every login is refused',
            f'give {service} a rule with first_factor = "stack" {SETTINGS}',
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
