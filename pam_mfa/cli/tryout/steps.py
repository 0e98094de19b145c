"""What the commands of `pam-mfa try` do, one step at a time."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...errors import RefusedError
from .. import paths, wholefile
from ..call import Call
from ..lease import end_all
from ..paths import Paths
from ..reload import reload_service
from . import enabling, files, freshness, record, watcher
from .record import Tryout

NOT_STARTED = 127  # as a shell says it
HELD_BACK = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM)


def run(call: Call, seconds: int, command: Sequence[str]) -> Tryout | None:
    """Run a command for a try.

    Returns:
        What is being tried now, None where the command changed nothing.

    Raises:
        RefusedError: it failed, or took longer than the time; then everything is as it was before.
    """
    tryout = _begin(call.where, seconds)
    return _complete(call, tryout, _run(command))


def enable(call: Call, seconds: int, service: str) -> Tryout | None:
    """Have a service ask, for a try. Raises RefusedError; then nothing was changed."""
    plan = enabling.plan(call.where, service)
    tryout = _begin(call.where, seconds)
    try:
        for path, whole in plan.files.items():
            wholefile.put(path, whole)
    except OSError as error:
        watcher.take_back(call.where, early=True)
        raise RefusedError("refused", f"{error.filename}: {error.strerror}; nothing was changed") from None
    for warning in plan.warnings:
        call.terminal.warn(f"Note: {warning.found}; {warning.fix}")
    return _complete(call, tryout, 0)


def confirm(where: Paths) -> None:
    """Keep what is being tried. Raises RefusedError where nobody got in with it here."""
    with record.locked(where):
        tryout = _pending(where)
        if tryout.changed is None:
            raise RefusedError("refused", "the change is still being made; wait for its end, then log in afresh")
        if tryout.left() <= 0:
            raise RefusedError("refused", "its time is over, and it is taken back; pam-mfa try rollback does that now")
        if not freshness.somebody_got_in(tryout.changed, tryout.programs):
            raise RefusedError("refused", _how_to_confirm(tryout))
        record.forget(where, "confirmed", tryout.about)


def rollback(where: Paths) -> None:
    """Take back what is being tried. Raises RefusedError."""
    _pending(where)
    if failed := watcher.take_back(where, early=True):
        raise _not_restored(failed)


def _begin(where: Paths, seconds: int) -> Tryout:
    """Save everything and have the time watched. Raises RefusedError; then nothing is pending."""
    with record.locked(where):
        if record.load(where) is not None:
            raise RefusedError("refused", "something is being tried already; see pam-mfa try status")
        tryout = Tryout(record.life(), time.monotonic() + seconds, seconds, None, (), (), files.save(where))
        record.keep(where, tryout)
        try:
            watcher.start(where)
        except BaseException:
            record.forget(where, "unchanged", ())
            raise
    return tryout


def _run(command: Sequence[str]) -> int:
    """Run it in the foreground; what ends it must not end us, who have to see to the rest."""
    before = {number: signal.signal(number, lambda number, frame: None) for number in HELD_BACK}
    try:
        return subprocess.Popen(command).wait()
    except OSError:
        return NOT_STARTED
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _complete(call: Call, tryout: Tryout, status: int) -> Tryout | None:
    """The change is made: give it its time, or take it back."""
    with record.locked(call.where):
        changed = files.changed(tryout.saved)
        in_time = record.load(call.where) == tryout
        if changed and in_time and status == 0:
            return _give_time(call, tryout, changed)
        _abandon(call.where, tryout, changed, in_time)
    if status != 0:
        raise RefusedError("refused", f"COMMAND ended with {status}; everything is as it was before")
    if not in_time:
        raise RefusedError("refused", "the time was over before COMMAND ended; everything is as it was before")
    return None


def _give_time(call: Call, tryout: Tryout, changed: Sequence[Path]) -> Tryout:
    """From here on a login proves something."""
    where = call.where
    if where.at(paths.SETTINGS) in changed and (problem := reload_service(where)):
        call.terminal.warn(problem)
    freshness.forget_sudo(where)
    if problem := end_all(where):
        call.terminal.warn(problem)
    services = [path.name for path in changed if path.parent == where.at(files.PAM)]
    waiting = replace(
        tryout,
        deadline=time.monotonic() + tryout.seconds,
        changed=time.clock_gettime(time.CLOCK_BOOTTIME),
        programs=freshness.programs(services),
        about=tuple(map(str, changed)),
    )
    record.keep(where, waiting)
    record.ring(where)
    return waiting


def _abandon(where: Paths, tryout: Tryout, changed: Sequence[Path], pending: bool) -> None:
    """Raises RefusedError; what is pending stays so then, and whoever watches the time tries again."""
    if changed and (failed := watcher.restore(where, tryout)):
        raise _not_restored(failed)
    if pending:
        record.forget(where, "restored" if changed else "unchanged", tuple(map(str, changed)))


def _pending(where: Paths) -> Tryout:
    tryout = record.load(where)
    if tryout is None:
        raise RefusedError("not_found", "nothing is being tried; pam-mfa try status tells how the last one ended")
    return tryout


def _how_to_confirm(tryout: Tryout) -> str:
    how = f"by {' or '.join(tryout.programs)} " if tryout.programs else ""
    return f"nobody has got in here {how}since the change; log in afresh {how}in another terminal, and confirm there"


def _not_restored(failed: Sequence[str]) -> RefusedError:
    return RefusedError("unavailable", f"not everything could be restored, it will be tried again: {'; '.join(failed)}")
