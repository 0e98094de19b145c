"""The fields of a rule that are about security keys, with real sudo, by service and engine (the others: tests/pam)."""

from __future__ import annotations

import pytest
from e2e.keyed import CODE, PIN, PROMPT, ROOT, TOUCH, enrolled, touched
from e2e.site_machine import SiteMachine
from vdev.keys import Keys

# Enrolling needs the key, and its PIN because some rule wants that.
SETTINGS = """
[policy]
local_key = "always"
[[rule]]
services = ["su"]
user_verification = "required"
[[rule]]
services = ["sudo"]
"""
# What sudo begins with, for a key that has a PIN; nobody is known to sit at the machine.
FIELDS = {
    "user_verification": {"required": PROMPT, "preferred": PROMPT, "discouraged": TOUCH},
    "local_key": {"always": TOUCH, "auto": CODE, "never": CODE},
}
CASES = [(key, value) for key, values in FIELDS.items() for value in values]


@pytest.mark.parametrize(("key", "value"), CASES, ids=[f"{key} {value}" for key, value in CASES])
def test_a_field(site: SiteMachine, keys: Keys, key: str, value: str) -> None:
    site.start(f'{SETTINGS}{key} = "{value}"\n')
    blue = enrolled(site, keys.key("blue", pin=PIN), PIN)
    sudo = site.sudo()
    first = sudo.which(CODE, TOUCH, PROMPT)
    assert first == FIELDS[key][value]
    if first == CODE:
        sudo.type(site.alice.code(), hidden=True)
        assert sudo.ends_with(0) == ROOT
        assert blue.trace() == []
        return
    if first == PROMPT:
        sudo.type(PIN, hidden=True)
        sudo.expect(TOUCH)
    touched(blue)
    assert sudo.ends_with(0) == ROOT
