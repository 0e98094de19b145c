"""Which settings are in force: the file's, or the last good text that the store kept."""

from __future__ import annotations

from collections.abc import Collection

from ..config import Settings, load, parse
from ..errors import ConfigError
from ..structure import field, structure

PATH = "/etc/pam-mfa/config.toml"


@structure
class InForce:
    """The choice.

    Args:
        settings: None where neither the file nor a kept text is any good.
        source: "file", "kept" or "none".
        text: of the settings in force.
        problems: of the file.
    """

    settings: Settings | None
    source: str
    text: str | None = None
    problems: list[str] = field(default_factory=list)


def choose(kept: str | None, factors: Collection[str], path: str = PATH) -> InForce:
    """The file's settings if they are good, else the kept ones: a bad file never takes logins down."""
    try:
        text, settings = load(path, factors)
        return InForce(settings, "file", text)
    except ConfigError as bad:
        problems = bad.problems
    if kept is not None:
        try:
            return InForce(parse(kept, factors), "kept", kept, problems)
        except ConfigError as worse:
            problems = problems + [f"the text kept from before: {problem}" for problem in worse.problems]
    return InForce(None, "none", None, problems)


def complaint(chosen: InForce) -> str | None:
    """The alert that an administrator must see, None where the file is in force."""
    if chosen.source == "file":
        return None
    what = "the settings from before stay in force" if chosen.settings else "no login is possible"
    return f"{PATH} cannot be used, {what}; fix it and reload pam-mfad: {'; '.join(chosen.problems)}"
