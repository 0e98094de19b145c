"""A PAM client: the real stack of this machine, or one out of a directory of your own. Used by `pam-mfa test`."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from types import TracebackType
from typing import Any

from ._native import _libpam

ffi: Any = _libpam.ffi
lib: Any = _libpam.lib

Conversation = Callable[["Style", str], str | None]
Delay = Callable[["Code", int], None]


class Style(IntEnum):
    """What a PAM message wants."""

    SECRET = lib.PAM_PROMPT_ECHO_OFF
    PROMPT = lib.PAM_PROMPT_ECHO_ON
    ERROR = lib.PAM_ERROR_MSG
    INFO = lib.PAM_TEXT_INFO


class Code(IntEnum):
    """PAM's return codes, by the names of <security/_pam_types.h> without PAM_."""

    SUCCESS = lib.PAM_SUCCESS
    OPEN_ERR = lib.PAM_OPEN_ERR
    SYMBOL_ERR = lib.PAM_SYMBOL_ERR
    SERVICE_ERR = lib.PAM_SERVICE_ERR
    SYSTEM_ERR = lib.PAM_SYSTEM_ERR
    BUF_ERR = lib.PAM_BUF_ERR
    PERM_DENIED = lib.PAM_PERM_DENIED
    AUTH_ERR = lib.PAM_AUTH_ERR
    CRED_INSUFFICIENT = lib.PAM_CRED_INSUFFICIENT
    AUTHINFO_UNAVAIL = lib.PAM_AUTHINFO_UNAVAIL
    USER_UNKNOWN = lib.PAM_USER_UNKNOWN
    MAXTRIES = lib.PAM_MAXTRIES
    NEW_AUTHTOK_REQD = lib.PAM_NEW_AUTHTOK_REQD
    ACCT_EXPIRED = lib.PAM_ACCT_EXPIRED
    SESSION_ERR = lib.PAM_SESSION_ERR
    CRED_UNAVAIL = lib.PAM_CRED_UNAVAIL
    CRED_EXPIRED = lib.PAM_CRED_EXPIRED
    CRED_ERR = lib.PAM_CRED_ERR
    NO_MODULE_DATA = lib.PAM_NO_MODULE_DATA
    CONV_ERR = lib.PAM_CONV_ERR
    AUTHTOK_ERR = lib.PAM_AUTHTOK_ERR
    AUTHTOK_RECOVERY_ERR = lib.PAM_AUTHTOK_RECOVERY_ERR
    AUTHTOK_LOCK_BUSY = lib.PAM_AUTHTOK_LOCK_BUSY
    AUTHTOK_DISABLE_AGING = lib.PAM_AUTHTOK_DISABLE_AGING
    TRY_AGAIN = lib.PAM_TRY_AGAIN
    IGNORE = lib.PAM_IGNORE
    ABORT = lib.PAM_ABORT
    AUTHTOK_EXPIRED = lib.PAM_AUTHTOK_EXPIRED
    MODULE_UNKNOWN = lib.PAM_MODULE_UNKNOWN
    BAD_ITEM = lib.PAM_BAD_ITEM
    CONV_AGAIN = lib.PAM_CONV_AGAIN
    INCOMPLETE = lib.PAM_INCOMPLETE


class Flag(IntEnum):
    """What a call may be told; combine with |."""

    NONE = 0
    SILENT = lib.PAM_SILENT
    DISALLOW_NULL_AUTHTOK = lib.PAM_DISALLOW_NULL_AUTHTOK
    ESTABLISH_CRED = lib.PAM_ESTABLISH_CRED
    DELETE_CRED = lib.PAM_DELETE_CRED
    REINITIALIZE_CRED = lib.PAM_REINITIALIZE_CRED
    REFRESH_CRED = lib.PAM_REFRESH_CRED
    CHANGE_EXPIRED_AUTHTOK = lib.PAM_CHANGE_EXPIRED_AUTHTOK


class PamError(Exception):
    """libpam refused to begin a transaction or to take an item; `code` says why."""

    def __init__(self, code: Code) -> None:
        super().__init__(f"PAM_{code.name}")
        self.code = code


class Transaction:
    """One PAM transaction; a context manager, or end() it. Not for several threads at once.

    Args:
        service: name of the file in /etc/pam.d, or in `confdir`.
        user: name of the account, None to let PAM ask for it.
        conversation: called with the style and text of every message; its answer to a prompt, None ends the
            conversation (PAM_CONV_ERR). Bytes that are no UTF-8 travel as surrogate escapes. What it raises is raised
            by the method that was running.
        confdir: directory of PAM files to use in place of the system's.
        on_delay: called with the code and the microseconds that modules asked for, in place of the wait.
        tty, rhost, ruser, xdisplay: the PAM items.

    Raises:
        PamError: the service or an item is refused.
    """

    def __init__(
        self,
        service: str,
        user: str | None,
        conversation: Conversation,
        confdir: str | None = None,
        *,
        on_delay: Delay | None = None,
        tty: str | None = None,
        rhost: str | None = None,
        ruser: str | None = None,
        xdisplay: str | None = None,
    ) -> None:
        self._conversation = conversation
        self._on_delay = on_delay
        self._raised: BaseException | None = None
        self._last = Code.SUCCESS
        self._self = ffi.new_handle(self)
        self._conv = ffi.new("struct pam_conv *", {"conv": lib.converse, "appdata_ptr": self._self})
        self._pam = ffi.NULL
        self._start(service, user, confdir)
        items = {lib.PAM_TTY: tty, lib.PAM_RHOST: rhost, lib.PAM_RUSER: ruser, lib.PAM_XDISPLAY: xdisplay}
        for item, value in items.items():
            if value is not None:
                self._set(item, _c_text(value))
        if on_delay:
            self._set(lib.PAM_FAIL_DELAY, ffi.cast("void *", lib.delay))

    def _start(self, service: str, user: str | None, confdir: str | None) -> None:
        pam = ffi.new("pam_handle_t **")
        name, account = _c_text(service), ffi.NULL if user is None else _c_text(user)
        if confdir is None:
            code = Code(lib.pam_start(name, account, self._conv, pam))
        else:
            code = Code(lib.pam_start_confdir(name, account, self._conv, _c_text(confdir), pam))
        if code is not Code.SUCCESS:
            raise PamError(code)
        self._pam = pam[0]

    def _set(self, item: int, value: Any) -> None:
        code = Code(lib.pam_set_item(self._pam, item, value))
        if code is not Code.SUCCESS:
            self.end()
            raise PamError(code)

    def __enter__(self) -> Transaction:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """End the transaction; modules forget what they hold. Twice is once."""
        pam, self._pam = self._pam, ffi.NULL
        if pam:
            lib.pam_end(pam, self._last)

    def authenticate(self, flags: int = Flag.NONE) -> Code:
        """pam_authenticate(3). This and the methods below raise what the conversation raised."""
        return self._call(lib.pam_authenticate, flags)

    def setcred(self, flags: int = Flag.ESTABLISH_CRED) -> Code:
        """pam_setcred(3)."""
        return self._call(lib.pam_setcred, flags)

    def acct_mgmt(self, flags: int = Flag.NONE) -> Code:
        """pam_acct_mgmt(3)."""
        return self._call(lib.pam_acct_mgmt, flags)

    def open_session(self, flags: int = Flag.NONE) -> Code:
        """pam_open_session(3)."""
        return self._call(lib.pam_open_session, flags)

    def close_session(self, flags: int = Flag.NONE) -> Code:
        """pam_close_session(3)."""
        return self._call(lib.pam_close_session, flags)

    def chauthtok(self, flags: int = Flag.NONE) -> Code:
        """pam_chauthtok(3)."""
        return self._call(lib.pam_chauthtok, flags)

    @property
    def user(self) -> str | None:
        """PAM_USER, which a module may have changed."""
        value = ffi.new("const void **")
        code = Code(lib.pam_get_item(self._pam, lib.PAM_USER, value))
        return _text(ffi.cast("char *", value[0])) if code is Code.SUCCESS and value[0] else None

    def _call(self, function: Callable[[Any, int], int], flags: int) -> Code:
        if not self._pam:
            raise PamError(Code.SYSTEM_ERR)
        self._last = Code(function(self._pam, flags))
        raised, self._raised = self._raised, None
        if raised is not None:
            raise raised
        return self._last

    def _answer(self, style: int, text: str) -> bytes | None:
        """The conversation's word, None where it raised: C must not see an exception."""
        try:
            answer = self._conversation(Style(style), text)
            return None if answer is None else _c_text(answer)
        except BaseException as error:  # noqa: BLE001 - raised again when libpam has returned
            self._raised = error
            return None

    def _delayed(self, code: int, microseconds: int) -> None:
        try:
            if self._on_delay:
                self._on_delay(Code(code), microseconds)
        except BaseException as error:  # noqa: BLE001 - as above
            self._raised = error


def describe(code: Code) -> str:
    """libpam's own sentence for a code, in the language of the locale."""
    return _text(lib.pam_strerror(ffi.NULL, code))


def _text(value: Any) -> str:
    return str(ffi.string(value).decode(errors="surrogateescape"))


def _c_text(text: str) -> bytes:
    """Raises ValueError where C would see the text end early."""
    if "\0" in text:
        raise ValueError("a PAM text cannot hold a NUL")
    return text.encode(errors="surrogateescape")


def _converse(count: int, messages: Any, responses: Any, data: Any) -> int:
    transaction = ffi.from_handle(data)
    answers = ffi.cast("struct pam_response *", lib.calloc(max(count, 1), ffi.sizeof("struct pam_response")))
    if not answers:
        return int(lib.PAM_BUF_ERR)
    for index in range(count):
        style = messages[index].msg_style
        answer = transaction._answer(style, _text(messages[index].msg))  # noqa: SLF001 - the other half of the class
        if style in {Style.SECRET, Style.PROMPT}:
            if answer is None:
                _free(answers, index)
                return int(lib.PAM_CONV_ERR)
            answers[index].resp = lib.strdup(answer)
    responses[0] = answers
    return int(lib.PAM_SUCCESS)


def _free(answers: Any, count: int) -> None:
    for index in range(count):
        lib.free(answers[index].resp)
    lib.free(answers)


def _delay(code: int, microseconds: int, data: Any) -> None:
    ffi.from_handle(data)._delayed(code, microseconds)  # noqa: SLF001 - the other half of the class


ffi.def_extern(name="converse", error=lib.PAM_CONV_ERR)(_converse)
ffi.def_extern(name="delay")(_delay)
