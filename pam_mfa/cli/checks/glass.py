"""Break-glass codes: are there any, and can they be used?"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from ...service import glass
from ...service.glass import Code
from .. import paths
from ..break_glass import FOLDER_MODE, group_of
from ..paths import Paths
from .files import REINSTALL, Wanted, check_one, service_account
from .finding import Finding, Severity, bad, ok, warn

SUBJECT = "break-glass"
FOLDER = Wanted(SUBJECT, paths.BREAK_GLASS, FOLDER_MODE, 0o007, directory=True)


def check(where: Paths) -> Iterator[Finding]:
    """The directory, and what is in it."""
    sound = True
    for finding in check_one(where, FOLDER, service_account(where)):
        sound = sound and finding.severity is Severity.OK
        yield finding
    if not sound or os.geteuid() != 0:
        return
    try:
        with glass.opened(str(where.at(paths.BREAK_GLASS))) as folder:
            found = os.fstat(folder)
            held = dict(glass.codes(folder))
    except OSError as error:
        yield bad(SUBJECT, f"{paths.BREAK_GLASS}: {error.strerror or error}", REINSTALL)
        return
    if found.st_gid != group_of(where) or found.st_mode & 0o070 != 0o070:
        fix = f"chgrp pam-mfa {paths.BREAK_GLASS}; chmod {FOLDER_MODE:04o} {paths.BREAK_GLASS}"
        yield bad(SUBJECT, "the service may not take codes away there, so none can be used", fix)
    yield from _judge(held)


def _judge(held: dict[str, Code | str]) -> Iterator[Finding]:
    now, good = int(time.time()), 0
    for name, code in held.items():
        revoke = f"run: pam-mfa break-glass revoke {name}"
        if isinstance(code, str):
            yield warn(SUBJECT, f"the code {name} does not count: {code}", revoke)
        elif code.expired(now):
            yield warn(SUBJECT, f"the code {name} has expired", revoke)
        else:
            good += 1
    if good:
        yield ok(SUBJECT, f"{good} unused {'code' if good == 1 else 'codes'}")
    else:
        yield ok(SUBJECT, "there is no unused code: pam-mfa break-glass create makes one to lock away")
