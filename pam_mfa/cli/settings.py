"""`pam-mfa config`: look at the settings and change them, with their comments kept and no mistake let in."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from ..errors import ConfigError
from . import paths, show
from .accounts import root_only
from .call import Call, with_json
from .exits import Exit
from .plain import one_line


@click.group("config", no_args_is_help=False)
def config() -> None:
    """Look at the settings, /etc/pam-mfa/config.toml, and change them."""


@config.command()
@click.argument("key", metavar="[KEY]", default="")
@with_json
def get(call: Call, key: str) -> int:
    """Print what the file says of KEY, as policy.methods, rule[0].methods or rule[NAME].methods; all of it without.

    What the file does not say is as pam-mfa.toml(5) tells.
    """
    return _reported(call, lambda: _get(call, key))


@config.command("set", context_settings={"ignore_unknown_options": True})
@click.argument("key", metavar="KEY")
@click.argument("value", metavar="VALUE")
@with_json
def set_value(call: Call, key: str, value: str) -> int:
    """Set KEY to VALUE (root).

    VALUE is TOML, as true, 2.5 or '["totp"]'; what is no TOML is a text. A file with a mistake in it is refused with
    everything that is wrong; else it is written in one step and the service is told.
    """
    root_only("config set")
    return _reported(call, lambda: _set(call, key, value))


@config.command()
@click.argument("file", metavar="[FILE]", default="")
@with_json
def validate(call: Call, file: str) -> int:
    """Say everything that is wrong with the settings, or with another FILE that is to become them."""
    return _reported(call, lambda: _validate(call, file))


@config.command()
@with_json
def edit(call: Call) -> int:
    """Change the settings in an editor: $VISUAL or $EDITOR (root).

    It edits a copy. With a mistake in it you are asked whether to edit it again; nothing else becomes of it.
    """
    root_only("config edit")
    return _reported(call, lambda: _edit(call))


def _reported(call: Call, what: Callable[[], None]) -> int:
    """Do it; what is wrong with a settings file is shown a line each."""
    try:
        what()
    except ConfigError as error:
        _complain(call, error)
        return Exit.USAGE
    return Exit.DONE


def _complain(call: Call, error: ConfigError) -> None:
    for problem in error.problems:
        if call.json:
            call.show({"kind": "problem", "problem": problem}, {})
        else:
            print(f"pam-mfa: {one_line(problem)}", file=sys.stderr)


def _get(call: Call, key: str) -> None:
    from ..fields import toml
    from . import settings_file, settings_path

    text = settings_file.read(call.where)
    value = settings_path.get(toml(text), key)
    call.show({"kind": "setting", "key": key, "value": _plain(value)}, {"setting": lambda record: print(_toml(value))})


def _set(call: Call, key: str, value: str) -> None:
    from ..fields import toml
    from . import settings_file, settings_path

    with settings_file.changing(call.where) as change:
        toml(change.text)  # says line and column
        change.write(settings_path.with_value(change.text, key, settings_path.parse_value(value)))
    _tell_service(call)


def _validate(call: Call, file: str) -> None:
    from . import settings_file

    text = settings_file.read_foreign(file) if file else settings_file.read(call.where)
    settings_file.check(text)
    file = file or str(call.where.at(paths.SETTINGS))
    call.show({"kind": "valid", "file": file}, {"valid": lambda record: show.line(f"{file}: no mistakes.")})


def _edit(call: Call) -> None:
    from . import settings_file
    from .editing import edited

    with settings_file.changing(call.where) as change:
        text = edited(change.text, call.terminal, settings_file.check, lambda error: _complain(call, error))
        if text == change.text:
            print("Nothing was changed.", file=sys.stderr)
            return
        change.write(text)
    _tell_service(call)


def _tell_service(call: Call) -> None:
    from .reload import reload_service

    if problem := reload_service(call.where):
        call.terminal.warn(f"The settings are written, but {problem}")


def _plain(value: Any) -> Any:
    """As JSON can say it: TOML knows dates."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, str | int | float | bool) else str(value)


def _toml(value: Any) -> str:
    import tomlkit

    if isinstance(value, dict):
        return tomlkit.dumps(value).rstrip("\n")
    return str(tomlkit.item(value).as_string())
