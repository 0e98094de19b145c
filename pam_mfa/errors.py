"""Everything that can go wrong, on one screen. Each leaf names the outcome of a login that meets it.

PamMfaError
 |- StoreError             the store did not answer: absent, full, locked, unreadable
 |   |- StoreMissing       no database, or an empty file
 |   |- StoreCorrupt       damaged, or a row fails its seal
 |   |- StoreSealed        sealed with another key
 |   |- StoreSchema        newer or older than this program
 |   |- NameMismatch       the uid is stored under another user name
 |   `- ChangedMeanwhile   the account is no longer as it was when the change began
 |- ConfigError            the settings file; carries every problem, by key path
 |- ProtocolError          a frame, an event or an answer that has no place here
 |   `- PeerFull           a peer that leaves its frames unread
 |- DeadlineError          a wait reached its end
 |- LookupFailed           the system's user database did not answer
 |- Gone                   nobody answers for the devices, or for certificate paths
 |- TooManyLogins          one user has begun too many that are not over yet
 |- AbortedError           the user gave up (Ctrl-C, hang-up)
 `- RefusedError           a management request that is not allowed or makes no sense
"""

from __future__ import annotations

from .outcome import Outcome


class PamMfaError(Exception):
    """Base of all; `outcome` is what a login ends in, `reason` the word for the audit record."""

    outcome = Outcome.UNAVAILABLE
    reason = "error"


class StoreError(PamMfaError):
    """The store could not answer or could not record."""

    reason = "store_unavailable"


class StoreMissing(StoreError):
    """There is no database, or it is an empty file."""

    reason = "store_missing"


class StoreCorrupt(StoreError):
    """The database or one of its rows is damaged."""

    reason = "store_corrupt"


class StoreSealed(StoreError):
    """The database was sealed with another key."""

    reason = "store_sealed"


class StoreSchema(StoreError):
    """The database belongs to another version of this program."""

    reason = "store_schema"


class NameMismatch(StoreError):
    """The uid is stored under another user name."""

    reason = "name_mismatch"


class ChangedMeanwhile(StoreError):
    """The account is no longer as it was when the change began, or somebody has what it was to be given."""

    reason = "changed_meanwhile"


class ConfigError(PamMfaError):
    """The settings cannot be used.

    Args:
        problems: one line each, "key.path: what is wrong and what is allowed".
    """

    reason = "config"

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class ProtocolError(PamMfaError):
    """A peer broke the protocol, or a flow was sent an event it did not ask for."""

    reason = "protocol"


class PeerFull(ProtocolError):
    """A peer leaves its frames unread: it takes no more now."""

    reason = "peer_full"


class DeadlineError(PamMfaError):
    """A wait reached its end."""

    reason = "deadline"


class LookupFailed(PamMfaError):
    """The system's user database (NSS) did not answer in time."""

    reason = "lookup"


class Gone(PamMfaError):
    """There is nobody to ask for devices or certificate paths, or no longer.

    Args:
        reason: "no_device_service", "device_service_busy", "device_service_untrusted", "device_service_gone" or
            "device_service_nonsense"; the same with path_checker.
    """

    reason = "device_service_gone"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TooManyLogins(PamMfaError):
    """One user has begun too many logins that are not over yet."""

    reason = "too_many_logins"


class AbortedError(PamMfaError):
    """The user gave up."""

    outcome = Outcome.ABORTED
    reason = "aborted"


class RefusedError(PamMfaError):
    """A management request that is refused.

    Args:
        code: machine-readable word, one of those in cli/README.md.
        message: one line that tells the user what to do next.
    """

    outcome = Outcome.DENIED
    reason = "refused"

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
