"""Results for people. Results for programs are JSON lines, see call.py."""

from __future__ import annotations

import io
import locale
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from .plain import one_line

QUIET_ZONE = 4  # light modules around a QR code (ISO/IEC 18004, 6.3.8)
WIDE = 200  # columns of a table that goes to a file or a pipe
SHORT_ID = 8
BLACK_ON_WHITE, PLAIN = "\033[40;97m", "\033[0m"

NO_MODEL = "00000000-0000-0000-0000-000000000000"  # of a key that was imported, or does not say
_KEY_FACTS = {
    "verified its user": "verified",
    "discoverable": "discoverable",
    "synced": "synced",
    "MAY HAVE BEEN COPIED (its counter fell back)": "suspect",
}

Record = Mapping[str, Any]


def utf8() -> bool:
    """Whether block characters reach the user: by the locale, for Python's own streams are UTF-8 even with LC_ALL=C."""
    return locale.getencoding().lower() == "utf-8"


def colours() -> bool:
    """Whether standard output takes colours (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def line(text: object, indent: int = 0) -> None:
    """One line of foreign text."""
    print(" " * indent + one_line(text))


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns without a frame; long cells are folded in a terminal and stay whole elsewhere."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in head:
        drawn.add_column(title, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(one_line(cell)) for cell in row))
    width = None if sys.stdout.isatty() else WIDE
    console = Console(no_color=not colours(), highlight=False, width=width, legacy_windows=False)
    with console.capture() as capture:
        console.print(drawn)
    print("\n".join(drawn_line.rstrip() for drawn_line in capture.get().splitlines()))


def credentials(records: Sequence[Record]) -> None:
    """What `list` found."""
    if not records:
        print("No credentials yet: pam-mfa enroll makes the first one.")
        return
    head = ("Name", "Factor", "Made", "Last used", "Details", "Id")
    table(head, [_credential(record) for record in records])


def _credential(record: Record) -> tuple[object, ...]:
    used = day(record["used"]) if record["used"] else "never"
    identity = one_line(record["id"])[:SHORT_ID]
    return record["label"], record["factor"], day(record["created"]), used, _details(record["details"]), identity


def _details(details: Record) -> str:
    if "left" in details:
        return f"{details['left']} of {details['of']} left"
    if "aaguid" in details:
        return _key(details)
    if "valid_until" in details:
        return _card(details)
    if "fingerprint" in details:
        return _ssh_key(details)
    if "spent" in details:
        return _ticket(details)
    if "digits" in details:
        return f"{details['algorithm']}, {details['digits']} digits, {details['period']} s"
    return ", ".join(f"{key} {value}" for key, value in details.items())


def _ticket(details: Record) -> str:
    """A one-time code of the help desk: used, or how long it can be."""
    if details["spent"] is True:
        return "used"
    word = "until" if time.time() < details["until"] else "expired"
    return f"{word} {time.strftime('%Y-%m-%d %H:%M', time.localtime(details['until']))}"


def _key(details: Record) -> str:
    """A security key: the product's name by its own word at enrolment, else its model's number, else what it is for."""
    model = details["aaguid"] if details["aaguid"] != NO_MODEL else f"made for {details['rp_id']}"
    facts = [details["product"] or model, details["transport"], f"counter {details['counter']}"]
    facts += [word for word, stands in _KEY_FACTS.items() if details[stands] is True]
    return ", ".join(fact for fact in facts if fact)


def _card(details: Record) -> str:
    """A smartcard: whose certificate it was when it was enrolled, and what it is recognised by, if not its key."""
    by = "" if details["by"] == "key" else f"by {details['by']} {details['matches']}"
    slot = f"slot {details['slot']}" if details["slot"] else ""
    until = f"valid until {details['valid_until']}" if details["valid_until"] else ""
    return ", ".join(fact for fact in (details["subject"], details["key"], slot, until, by) if fact)


def _ssh_key(details: Record) -> str:
    """A security key for ssh, as `ssh-keygen -l` tells it from others."""
    facts = [details["algorithm"], details["fingerprint"]]
    facts += [f"made for {details['application']}"] if details["application"] != "ssh:" else []
    return ", ".join([*facts, *(["verify-required"] if details["verified"] else [])])


def day(seconds: int) -> str:
    """A date in the user's time zone."""
    return time.strftime("%Y-%m-%d", time.localtime(seconds))


def duration(seconds: float) -> str:
    """Rounded up to what matters to somebody who waits: "45 s", "3 min", "2 h", "4 days"."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size or (seconds >= size and unit != "days"):
            return f"{-(-int(seconds) // size)} {unit}"
    return f"{int(seconds)} s"


def totp(record: Record) -> None:
    """A new authenticator secret: QR code, secret and URI."""
    print("Scan this with your authenticator app:\n")
    print(qr(str(record["uri"])))
    print("Or type the secret into the app:")
    print(f"  Secret  {grouped(str(record['secret']))}")
    print(f"  URI     {one_line(record['uri'])}\n", flush=True)


def grouped(secret: str) -> str:
    """In groups of four, as it is easier to type; apps ignore the blanks."""
    plain = one_line(secret)
    return " ".join(plain[at : at + 4] for at in range(0, len(plain), 4))


def qr(text: str) -> str:
    """A QR code of half blocks, or of double-width characters where the terminal has ASCII only."""
    import segno

    code = segno.make(text, micro=False, error="L", boost_error=False)
    if utf8():
        drawn = io.StringIO()
        code.terminal(drawn, border=QUIET_ZONE, compact=True)
        rows = drawn.getvalue().splitlines()
    else:
        # Light is printed and dark is left blank: on the usual dark terminal that is the right way round.
        rows = ["".join("  " if bit else "##" for bit in row) for row in code.matrix_iter(border=QUIET_ZONE)]
    start, end = (BLACK_ON_WHITE, PLAIN) if colours() else ("", "")
    return "\n".join(f"{start}{row}{end}" for row in rows) + "\n"


def recovery(record: Record) -> None:
    """Fresh recovery codes."""
    print("Recovery codes. Each one works once, in the place of a code. Keep them on paper, away from this machine:\n")
    for code in record["codes"]:
        print(f"  {one_line(code)}")
    print("\nThey are shown only now; codes shown before no longer work.", flush=True)


def certificate(record: Record) -> None:
    """A certificate that is about to be enrolled."""
    rows = {
        "Subject": record["subject"],
        "Issuer": record["issuer"],
        "Serial": record["serial"],
        "Valid": f"{record['valid_from']} to {record['valid_until']}",
        "Key": f"{record['key']}, slot {record['slot']}",
        "Counts by": record["by"] if record["by"] == "key" else f"{record['by']} {record['matches']}",
    }
    print("The smartcard has this certificate:\n")
    for name, value in rows.items():
        line(f"{name:9}  {value}", indent=2)
    print(flush=True)


def enrolled(record: Record) -> None:
    """A credential that works from now on."""
    line(f'Enrolled {record["factor"]} "{record["label"]}".')


def account(record: Record) -> None:
    """Where an account stands."""
    factors = ", ".join(f"{count} {name}" for name, count in record["factors"].items() if count)
    line(f"{record['name']} (uid {record['uid']}): {factors or 'nothing enrolled'}")
    for name, standing in record["standing"].items():
        line(f"{name}: {_standing(standing, record['name'])}", indent=2)
        familiar = standing.get("familiar", [])  # unless a service of before still runs
        ready = sum(each["state"] == "open" for each in familiar)
        if familiar and (standing["state"] != "open" or ready < len(familiar)):
            line(f"{name}, where it was proven lately: ready at {ready} of {len(familiar)} places", indent=2)


def _standing(standing: Record, user: object) -> str:
    state = standing["state"]
    if state == "waiting":
        return f"too many wrong answers; none is accepted for {duration(standing['wait'])}"
    if state == "disabled":
        return f"disabled after too many wrong answers; an administrator can run: pam-mfa unlock {user}"
    return "ready" if state == "open" else str(state)


def service(record: Record) -> None:
    """What answered: the service, or an engine for this one request."""
    what = "service" if record["role"] == "service" else "no service runs; an engine answered:"
    line(f"pam-mfa {what} {record['version']}, Python {record['python']}, up {duration(record['uptime'])}")
    for name in ("sessions", "config", "store", "audit_lost"):
        line(f"{name.replace('_', ' ')}: {record[name]}", indent=2)
    for problem in record["problems"]:
        line(problem, indent=2)
