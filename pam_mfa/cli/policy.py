"""`pam-mfa policy check`: rules that no login reaches, and rules that contradict themselves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import ConfigError, RefusedError
from . import paths, show
from .call import Call, with_json
from .exits import Exit

if TYPE_CHECKING:
    from ..config import Settings
    from .review import Odd


@click.group()
def policy() -> None:
    """Look at the rules in the settings."""


@policy.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@with_json
def check(call: Call, file: Path | None) -> int:
    """List unreachable and contradictory rules.

    FILE is a settings file, that of this machine where it is left out. A rule is unreachable where one rule before it
    is for everybody whom it is for. The exit code is 6 where there is anything to list.
    """
    file = file or call.where.at(paths.SETTINGS)
    try:
        settings, odd = _review(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeError) as error:
        raise RefusedError("not_found", f"{file} cannot be read: {error}") from None
    except ConfigError as error:
        for problem in error.problems:
            call.show({"kind": "problem", "problem": problem}, {"problem": lambda record: show.line(record["problem"])})
        return Exit.USAGE
    for each in odd:
        call.show(
            {"kind": "odd", "rule": each.rule, "state": each.state, "found": each.found},
            {"odd": lambda record: show.line(f'{record["state"]}: rule "{record["rule"]}": {record["found"]}')},
        )
    if not odd and not call.json:
        show.line(f"Nothing odd in {len(settings.rules)} rules.")
    return Exit.WARNINGS if odd else Exit.DONE


def _review(text: str) -> tuple[Settings, list[Odd]]:
    """The settings in a text, and what is odd in them. Raises ConfigError."""
    from ..config import parse
    from ..factors import methods, registry
    from ..fields import toml
    from .review import review

    settings = parse(text, methods(registry(lambda data: data)))
    return settings, list(review(settings, toml(text).get("rule", [])))  # type: ignore[arg-type]
