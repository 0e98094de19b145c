"""What is a request on the manage socket and what is none, whoever sends it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from flows import ALICE, recovery
from hypothesis import HealthCheck, given, settings as tried, strategies as st
from peers import PHONE, Held, manager
from stores import SEALER, discard, enrol, make

from pam_mfa import wire
from pam_mfa.errors import ProtocolError
from pam_mfa.service.manage import VERBS, parse
from pam_mfa.store.sqlite import SqliteStore
from pam_mfa.wire import Type


@pytest.fixture
def enrolled(tmp_path: Path) -> Iterator[SqliteStore]:
    one = SqliteStore(make(tmp_path / "state"), SEALER)
    enrol(one, PHONE, recovery())
    yield one
    discard(one)


HOSTILE: list[bytes] = [
    b"",
    b"{}",
    b"[]",
    b"null",
    b"list",
    b'"list"',
    b'{"verb": "list"',
    b'{"verb": "list"}x',
    b'{"verb": "list"}{"verb": "unlock"}',
    b'{"verb": "List"}',
    b'{"verb": "__class__"}',
    b'{"verb": ["list"]}',
    b'{"verb": null}',
    b'{"verb": "list", "args": []}',
    b'{"verb": "list", "args": null}',
    b'{"verb": "list", "args": "x"}',
    b'{"verb": "list", "verb": "unlock"}',
    b'{"verb": "list", "args": {"a": 1, "a": 2}}',
    b'{"verb": "list", "account": {"uid": 1, "uid": 0, "name": "x"}}',
    b'{"verb": "list", "args": {"a": NaN}}',
    b'{"verb": "list", "args": {"a": Infinity}}',
    b'{"verb": "list", "args": {"a": -Infinity}}',
    b'{"verb": "list", "args": {"a": 1.0}}',
    b'{"verb": "list", "args": {"a": 1e' + b"9" * 3000 + b"}}",
    b'{"verb": "list", "args": ' + b"[" * 2000 + b"]" * 2000 + b"}",
    b"[" * 4096,
    b'{"verb": "list\xff"}',
    b'\xff\xfe{\x00"\x00',
    '{"verb": "list"}'.encode("utf-16"),
    '{"verb": "list"}'.encode("utf-32"),
    b'\xef\xbb\xbf{"verb": "list"}',
    b'{"verb": "list"}\0',
    b"\0" * 4096,
]


@pytest.mark.parametrize("payload", HOSTILE, ids=lambda payload: ascii(payload[:50]))
def test_what_is_no_request_is_invalid(payload: bytes) -> None:
    """L15."""
    with pytest.raises(ProtocolError):
        parse(payload)
    one = manager().send(Type.REQUEST, payload)
    assert one.done["error"] == "invalid"
    assert one.kinds == ["DONE"]
    assert one.link.records == []


@given(st.binary(max_size=4096))
def test_any_bytes_are_a_request_or_a_protocol_error(payload: bytes) -> None:
    try:
        verb, args, account = parse(payload)
    except ProtocolError:
        return
    assert verb in VERBS
    assert isinstance(args, dict)
    assert isinstance(account, dict)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)
keys = ["factor", "label", "credential", "renew", "algorithm", "digits", "period", "uid", "name"]


@tried(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sampled_from([0, ALICE]),
    st.sampled_from(list(VERBS)),
    st.dictionaries(st.sampled_from(keys), json_values),
    st.dictionaries(st.sampled_from(keys), json_values),
)
def test_any_arguments_end_in_one_answer_of_one_line(
    enrolled: SqliteStore, uid: int, verb: str, args: Mapping[str, Any], account: Mapping[str, Any]
) -> None:
    one = manager(uid, Held(enrolled)).request(verb, account, **args)
    if not one.session.over:
        one.reply("", "", "")
    message = one.done.get("message", "")
    assert message.isprintable()
    assert one.done["ok"] or one.done["error"] in {"invalid", "not_allowed", "not_found", "refused", "unavailable"}
    assert account or one.done.get("error") != "unavailable"
    assert all(len(payload) < wire.MAX_PAYLOAD for _, payload in one.link.frames)
