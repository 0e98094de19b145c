"""The examples of packaging/manual/policy.md as real logins, by service and engine."""

from __future__ import annotations

import pytest
from examples import Example, examples
from hosts import Scene
from newcomers import NEEDED, enrolled_by_login
from people import BARE

JOIN = "for pair in alice:staff alice:admins bob:staff bob:contractors carol:rescue; do "
JOIN += "groupadd -f ${pair#*:}; usermod --append --groups ${pair#*:} ${pair%:*}; done"
# Only a security key shows what these say; and no host but sshd brings a public key.
LEFT_OUT = {"dave"}


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.title)
def test_an_example(scene: Scene, example: Example) -> None:
    scene.configure(example.settings)
    scene.machine.run(["/bin/sh", "-euc", JOIN])
    for row in example.logins:
        user = row.options["user"]
        if user in LEFT_OUT or "public-key" in row.options or (row.code == "PAM_AUTH_ERR" and row.sees):
            continue
        service = row.options["service"]
        scene.machine.write(f"/etc/pam.d/{service}", BARE.format(""))
        items = {name: row.options[name] for name in ("rhost", "tty", "ruser") if name in row.options}
        subject = items.get("ruser", "root")
        person = scene.people[user if subject == "root" else subject]
        if row.sees == NEEDED:
            login = enrolled_by_login(scene, user, service=service, **items)
        else:
            answers = [person.code()] if row.code == "PAM_SUCCESS" else [""] * 4
            login = scene.login(user, *answers, service=service, **items)
        seen = [*login.shown[:1], *login.prompts[:1]]
        assert (f"PAM_{login.code}", seen[:1]) == (row.code, [row.sees] if row.sees else []), row
