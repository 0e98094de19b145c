"""Has the service enrol what was read, an account at a time, and reports on every key."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import wire
from ..errors import RefusedError
from . import show
from .call import Call
from .client import Record
from .exits import Exit
from .terminal import Terminal

# What tells keys from each other in a report, and its title, where that is not what they were made for.
ABOUT = {
    "pam_p11": ("subject", "Subject"),
    "pam_pkcs11": ("subject", "Subject"),
    "authorized_keys": ("fingerprint", "Fingerprint"),
}
# What is left to be done.
HINT = " Their users can make recovery codes: pam-mfa recovery --new"
HINTS = {"authorized_keys": " Who has nothing else needs something for other services: pam-mfa enroll --user USER"}

if TYPE_CHECKING:
    from ..importers.base import Entry, Imported, Pinned, Presented


class Upload(Terminal):
    """Answers every question with the next piece of a text, and with nothing behind its end."""

    def __init__(self, text: str) -> None:
        self._left = text

    def ask(self, text: str) -> str:
        """The next piece."""
        piece, self._left = self._left[: wire.MAX_REPLY], self._left[wire.MAX_REPLY :]
        return piece


@dataclass(slots=True)
class Takeover:
    """One import.

    Args:
        source: which program the keys come from, in the service's word.
        shared: also keys that another account has.
        apply: do it, not only say what would be done.
    """

    call: Call
    source: str
    shared: bool
    apply: bool

    def run(self, found: Iterable[Entry]) -> int:
        """Report on every key. Returns the exit code."""
        from ..importers.base import Imported, Pinned, Presented, without_doubles

        kinds: dict[str, type[Imported | Pinned | Presented]] = {
            "subject": Pinned,
            "fingerprint": Presented,
            "rp_id": Imported,
        }
        fields = kinds[self._about()[0]].FIELDS
        entries = without_doubles(found, self.shared)
        if not entries:
            raise RefusedError("not_found", "there is no key in it")
        records = [_record(entry, fields) for entry in entries]
        code = Exit.DONE
        for user in dict.fromkeys(entry.user for entry in entries if entry.imported):
            own = [at for at, entry in enumerate(entries) if entry.imported and entry.user == user]
            if code is Exit.UNAVAILABLE:
                _refuse([records[at] for at in own], "not tried, as pam-mfa does not answer")
            else:
                code = self._account(user, [entries[at] for at in own], [records[at] for at in own])
        self._show(records)
        if code is not Exit.UNAVAILABLE and any(record["state"] == "refused" for record in records):
            return Exit.REFUSED
        return code

    def _account(self, user: str, entries: Sequence[Entry], records: Sequence[Record]) -> Exit:
        """All keys of one account, or none."""
        self.call.user = user
        self.call.terminal = Upload(sheet(entry.imported for entry in entries if entry.imported))
        arguments = {"source": self.source, "shared": self.shared}
        try:
            answers = list(self.call.records("import" if self.apply else "check_import", arguments))
        except RefusedError as error:
            _refuse(records, error.message)
            return Exit.UNAVAILABLE if error.code == "unavailable" else Exit.DONE
        for record, answer in zip(records, answers, strict=True):
            record |= {"state": answer["state"], "label": answer["label"]}
        return Exit.DONE

    def _about(self) -> tuple[str, str]:
        return ABOUT.get(self.source, ("rp_id", "Made for"))

    def _show(self, records: Sequence[Record]) -> None:
        if self.call.json:
            for record in records:
                self.call.show(record, {})
            return
        about, title = self._about()
        show.table(("Line", "User", "Key", title, "Result"), [_row(record, about) for record in records])
        print(_summary(records, self.apply, HINTS.get(self.source, HINT)))


def sheet(keys: Iterable[Imported | Pinned | Presented]) -> str:
    """What goes to the service of one account's keys."""
    return json.dumps([key.item() for key in keys])


def _record(entry: Entry, fields: Sequence[str]) -> Record:
    key = entry.imported
    return {
        "kind": "key",
        "line": entry.line,
        "user": entry.user,
        **(key.shown() if key else dict.fromkeys(fields, "")),
        "state": "" if key else "refused",
        "label": "",
        "why": entry.why,
        "note": entry.note,
    }


def _refuse(records: Iterable[Record], why: str) -> None:
    for record in records:
        record |= {"state": "refused", "why": why}


def _row(record: Record, about: str) -> tuple[object, ...]:
    what = {
        "ready": f'can be imported as "{record["label"]}"',
        "imported": f'imported as "{record["label"]}"',
        "present": f'enrolled already as "{record["label"]}"',
    }.get(record["state"], f"not imported: {record['why']}")
    note = f"; {record['note']}" if record["note"] and record["state"] != "refused" else ""
    return record["line"], record["user"] or "-", record["algorithm"] or "-", record[about] or "-", what + note


def _summary(records: Sequence[Record], applied: bool, hint: str) -> str:
    states = [record["state"] for record in records]
    if not applied:
        count = states.count("ready")
        return f"{count} can be imported. Nothing was changed" + ("; do it with --apply." if count else ".")
    return f"{states.count('imported')} imported.{hint if 'imported' in states else ''}"
