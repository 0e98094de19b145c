"""What a user is told at a login of changes since the last one: what was changed, by whom and when.

A change that its user knows nothing of is how a taken account shows. Notices are kept with the change, in the same
transaction, and told when somebody has got in: to nobody else.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile

from .conversation import Steps, commit, tell
from .errors import StoreError
from .store.base import Heard
from .store.rows import Account, Notice
from .throttle import Instant

WORDS = {
    "enrolled": "{about} enrolled",
    "imported": "{about} taken over from another program",
    "renamed": "{about} renamed",
    "removed": "{about} removed",
    "recovery": "new recovery codes made",
    "issued": "a one-time code given out",
    "unlocked": "wrong answers forgotten",
    "reset": "all that was enrolled removed",
}
ADVICE = "If you know nothing of that, tell your administrator."
UNSURE = "sshd"
TOLD_SECONDS = 7 * 86400
SOMETHING = "something changed"  # a word of a newer version, or one that is damaged


def naming(factor: str, label: str) -> str:
    """A credential in words; a label that a terminal may not show is left out."""
    return f'{factor} "{label}"' if label.isascii() and label.isprintable() else factor


def tell_news(account: Account, service: str, now: Callable[[], Instant]) -> Steps[None]:
    """Sub-flow: tell an account's notices, and forget them. Whoever calls knows that its user has got in.

    A store that cannot forget them just now keeps nobody out: they are told again.
    """
    for text in news(account):
        yield from tell(text)
    if heard := _heard(account, service, now().wall if account.notices else 0):
        try:
            yield from commit(Heard(account.uid, account.user, account.heard + account.earlier + heard))
        except StoreError:
            return


def _heard(account: Account, service: str, wall: int) -> int:
    """How many of the notices are certain to be seen, or were told for long enough.

    sshd shows what comes behind the last prompt to whoever gets a shell at a terminal, and else to nobody.
    """
    if service != UNSURE:
        return len(account.notices)
    return sum(1 for _ in takewhile(lambda notice: wall - notice.at >= TOLD_SECONDS, account.notices))


def news(account: Account) -> tuple[str, ...]:
    """What is told of an account's notices, a line each."""
    if not account.notices:
        return ()
    earlier = (f"Second factor: {account.earlier} earlier changes are not shown.",) if account.earlier else ()
    return (*earlier, *map(_text, account.notices), ADVICE)


def _text(notice: Notice) -> str:
    from time import gmtime, strftime  # few logins have any

    if not notice.what:
        return f"Second factor: {SOMETHING}; by whom and when cannot be read"
    words = WORDS.get(notice.what, SOMETHING).format(about=notice.about)
    when = strftime("%Y-%m-%d %H:%M UTC", gmtime(notice.at))
    return f"Second factor: {words} by {'root' if notice.by_root else 'you'}, {when}"
