"""What logind knows of where somebody is: sd-login(3) of libsystemd.

It reads /proc/PID/cgroup and files below /run/systemd, which only the kernel and logind write. No environment.
"""

from __future__ import annotations

from ctypes import CDLL, POINTER, byref, c_char_p, c_int, c_uint, c_void_p
from functools import cache
from typing import Any

from ..origin import Facts, Sessions
from ..structure import replace

# Sessions without anybody in front of them: of a user's service manager, of cron.
UNATTENDED = frozenset({b"manager", b"manager-early", b"background", b"background-light"})

ALL = -1  # also those that are closing: a session by ssh may run on


class Logind:
    """Answers from logind's files.

    Raises OSError where there is no libsystemd.
    """

    def __init__(self) -> None:
        self._sd = CDLL("libsystemd.so.0")
        self._sd.sd_uid_get_sessions.argtypes = [c_uint, c_int, POINTER(POINTER(c_void_p))]
        self._free = CDLL(None).free
        self._free.argtypes, self._free.restype = [c_void_p], None

    def facts(self, pid: int, user: int | None) -> Facts:
        """What is known of where a process is. Later facts count only where the earlier ones are not known.

        Args:
            pid: of the process that asks; not 0, which would be ourselves.
            user: the uid of who is to log in.
        """
        session = self._text(self._sd.sd_pid_get_session, c_int(pid))
        facts = self._begun(self._where(pid, session, user), pid, session)
        return replace(facts, session=session.decode("ascii", "replace")) if session and self._open(session) else facts

    def _where(self, pid: int, session: bytes | None, user: int | None) -> Facts:
        if session is not None:
            if self._elsewhere(session):
                return Facts(peer_remote=True)
            if self._on_seat(session):
                return Facts(peer_remote=False)
        # Of a session in the background of its seat too, what else its owner has decides.
        owner = c_uint()
        if self._sd.sd_pid_get_owner_uid(c_int(pid), byref(owner)) >= 0:
            return Facts(owner=self._sessions(owner.value))
        return Facts() if user is None else Facts(user=self._sessions(user))

    def _begun(self, facts: Facts, pid: int, session: bytes | None) -> Facts:
        """With what began the session. What a user's service manager runs (a terminal) is of their only session."""
        owner = c_uint()
        if session is None and self._sd.sd_pid_get_owner_uid(c_int(pid), byref(owner)) >= 0:
            session = only[0] if len(only := self._attended(owner.value)) == 1 else None
        if session is None:
            return facts
        service = self._text(self._sd.sd_session_get_service, c_char_p(session)) or b""
        host = self._text(self._sd.sd_session_get_remote_host, c_char_p(session)) or b""
        return replace(facts, service=service.decode(errors="replace"), host=host.decode(errors="replace"))

    def _attended(self, uid: int) -> list[bytes]:
        return [
            session
            for session in self._names(uid)
            if self._text(self._sd.sd_session_get_class, c_char_p(session)) not in UNATTENDED
        ]

    def _sessions(self, uid: int) -> Sessions:
        attended = self._attended(uid)
        return Sessions(any(map(self._on_seat, attended)), any(map(self._elsewhere, attended)))

    def _open(self, session: bytes) -> bool:
        return self._text(self._sd.sd_session_get_state, c_char_p(session)) in (b"active", b"online")

    def _on_seat(self, session: bytes) -> bool:
        """Active there, and not closing: what runs on after a logout (tmux) may be held from elsewhere."""
        return self._seat(session) and self._text(self._sd.sd_session_get_state, c_char_p(session)) == b"active"

    def _elsewhere(self, session: bytes) -> bool:
        """Remote, or on no seat: what su, xrdp or a serial line opens is not marked remote, wherever it comes from."""
        return self._sd.sd_session_is_remote(c_char_p(session)) != 0 or not self._seat(session)

    def _seat(self, session: bytes) -> bool:
        return bool(self._text(self._sd.sd_session_get_seat, c_char_p(session)))

    def _names(self, uid: int) -> list[bytes]:
        names = POINTER(c_void_p)()
        count = self._sd.sd_uid_get_sessions(uid, ALL, byref(names))
        try:
            return [self._taken(names[index]) for index in range(max(count, 0))]
        finally:
            self._free(names)

    def _text(self, call: Any, about: c_int | c_char_p) -> bytes | None:
        """What a function hands over in its second argument, None where it knows nothing."""
        text = c_void_p()
        return self._taken(text.value) if call(about, byref(text)) >= 0 else None

    def _taken(self, text: int | None) -> bytes:
        try:
            return c_char_p(text).value or b""
        finally:
            self._free(text)


@cache
def logind() -> Logind:
    """The one of this process, made when it is first asked. Raises OSError where there is no libsystemd."""
    return Logind()
