"""Are the rules of the settings reachable, and at one with themselves? Bad settings are for service.py to tell."""

from __future__ import annotations

from collections.abc import Iterator

from ...config import load
from ...errors import ConfigError
from ...factors import methods, registry
from ...fields import toml
from .. import paths
from ..paths import Paths
from ..review import review
from .finding import Finding, ok, some, warn


def check(where: Paths) -> Iterator[Finding]:
    """What `pam-mfa policy check` lists, as one finding."""
    try:
        text, settings = load(str(where.at(paths.SETTINGS)), methods(registry(lambda data: data)))
    except ConfigError:
        return
    odd = list(review(settings, toml(text).get("rule", [])))  # type: ignore[arg-type]
    if odd:
        names = list(dict.fromkeys(each.rule for each in odd))
        yield warn("rules", f"unreachable, or at odds with themselves: {some(names)}", "run: pam-mfa policy check")
    else:
        yield ok("rules", f"{len(settings.rules)}, nothing odd")
