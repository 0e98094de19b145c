"""`pam-mfa break-glass` as it is run, what the service reads of it, and what doctor says."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from syslog_socket import SyslogSocket

from pam_mfa.break_glass import digest
from pam_mfa.cli.checks import glass as checks
from pam_mfa.cli.exits import Exit
from pam_mfa.cli.paths import Paths
from pam_mfa.conversation import BreakGlass
from pam_mfa.factors.recovery import fold
from pam_mfa.service import glass

from .conftest import AS_SOMEBODY, Run, command, environment
from .installed import SERVICE_UID, lay, wrong

FORM = re.compile(r"(?:[0-9A-HJKMNP-TV-Z]{4}-){7}[0-9A-HJKMNP-TV-Z]{4}")
DAY = 86400


@pytest.fixture
def host(root: Path) -> Path:
    """An installation whose service does not run."""
    lay(root)
    return root


@pytest.fixture
def folder(host: Path) -> Path:
    """Where codes lie."""
    return host / "var/lib/pam-mfa-break-glass"


def made(run: Run, *more: str) -> dict[str, Any]:
    """A new code."""
    done = run("break-glass", "create", "--json", *more)
    assert done.returncode == Exit.DONE, done.stderr
    return dict(json.loads(done.stdout))


def opens(folder: Path, code: str, user: str = "alice", at: int | None = None) -> bool:
    """Whether somebody who types it gets in, which uses it up."""
    want = BreakGlass(digest(fold(code)), user, int(time.time()) if at is None else at)
    return glass.break_glass(want, str(folder)).taken is not None


def test_a_code_that_is_made_opens_once(folder: Path, run: Run) -> None:
    record = made(run)
    assert FORM.fullmatch(record["code"])
    assert record["kind"] == "break_glass"
    assert opens(folder, record["code"])
    assert not opens(folder, record["code"])


def test_it_is_shown_to_people_once_and_kept_nowhere(folder: Path, run: Run) -> None:
    done = run("break-glass", "create", "--name", "the safe in A.12")
    lines = done.stdout.splitlines()
    assert lines[0] == 'Break-glass code "the safe in A.12" for any account of this host:'
    assert FORM.fullmatch(lines[2].strip())
    assert lines[4] == "Write it down and lock it away: it opens once, and is shown only now."
    kept = b"".join(path.read_bytes() for path in folder.iterdir())
    assert fold(lines[2].strip()).encode() not in kept
    assert opens(folder, lines[2].strip())


def test_no_two_are_alike(run: Run, host: Path) -> None:
    records = [made(run) for _ in range(4)]
    assert len({record["code"] for record in records}) == len({record["id"] for record in records}) == 4


def test_its_file_is_roots_and_the_service_may_only_take_it(folder: Path, run: Run) -> None:
    path = folder / made(run)["id"]
    found, above = path.stat(), folder.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (0, SERVICE_UID, 0o640)
    assert (above.st_uid, above.st_gid, stat.S_IMODE(above.st_mode)) == (0, SERVICE_UID, 0o770)


@pytest.mark.parametrize("before", ["", "mkdir -m 700 $1", "ln -s /tmp $1", "touch $1", "mkdir $1; chown 990:990 $1"])
def test_the_directory_is_made_as_it_has_to_be(folder: Path, run: Run, before: str) -> None:
    folder.rmdir()
    subprocess.run(["/bin/sh", "-euc", before, "sh", str(folder)], check=True)
    assert run("break-glass", "revoke", "--all").returncode != Exit.DONE
    assert made_or_refused(run) == (not before.startswith(("ln", "touch", "mkdir $1;")))


def made_or_refused(run: Run) -> bool:
    """Whether a code could be made; where not, the reason is a line."""
    done = run("break-glass", "create")
    assert (done.returncode, done.stdout == "") in ((Exit.DONE, False), (Exit.UNAVAILABLE, True))
    assert done.stderr.count("\n") <= 2
    return done.returncode == Exit.DONE


def test_a_code_for_one_account_and_a_time(folder: Path, run: Run) -> None:
    record = made(run, "--user", "root", "--valid", "90d")
    assert record["expires"] - record["created"] == 90 * DAY
    assert not opens(folder, record["code"], "alice")
    assert not opens(folder, record["code"], "root", record["expires"])
    assert opens(folder, record["code"], "root", record["expires"] - 1)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--user", "nobody-of-that-name"], Exit.NOT_FOUND),
        (["--valid", "5m"], Exit.USAGE),
        (["--valid", "for ever"], Exit.USAGE),
        (["--valid", "99999d"], Exit.USAGE),
        (["--name", ""], Exit.USAGE),
        (["--name", "x" * 65], Exit.USAGE),
        (["--name", "caf\u00e9"], Exit.USAGE),
        (["--name", "a\nb"], Exit.USAGE),
    ],
)
def test_what_makes_none(folder: Path, run: Run, options: list[str], code: Exit) -> None:
    assert run("break-glass", "create", *options).returncode == code
    assert list(folder.iterdir()) == []


def test_without_the_services_account_none_is_made(host: Path, folder: Path, run: Run) -> None:
    (host / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\npam-mfad:x:5:5::/:/bin/sh\n")
    done = run("break-glass", "create")
    assert (done.returncode, done.stdout) == (Exit.UNAVAILABLE, "")
    assert "there is no system user pam-mfa" in done.stderr
    assert list(folder.iterdir()) == []


def test_there_are_never_more_than_sixteen(folder: Path, run: Run) -> None:
    for number in range(16):
        (folder / f"{number:08x}").touch()
    done = run("break-glass", "create")
    assert (done.returncode, done.stdout) == (Exit.USAGE, "")
    assert "there are 16 codes already" in done.stderr


def test_list(folder: Path, run: Run) -> None:
    assert run("break-glass", "list").stdout == "No break-glass code: sudo pam-mfa break-glass create makes one.\n"
    first, second = made(run, "--name", "safe"), made(run, "--user", "root", "--valid", "24h")
    (folder / "0badc0de").touch()
    shown = run("break-glass", "list").stdout
    lines = {line.split()[-1]: line for line in shown.splitlines()}
    assert "safe" in lines[first["id"]]
    assert "for ever" in lines[first["id"]]
    assert "any account" in lines[first["id"]]
    assert "root" in lines[second["id"]]
    assert "0badc0de does not count: not " in shown or "0badc0de does not count: Expecting value" in shown
    assert first["code"] not in shown
    records = [json.loads(line) for line in run("break-glass", "list", "--json").stdout.splitlines()]
    assert {record["kind"] for record in records} == {"break_glass", "break_glass_damaged"}
    assert all("code" not in record for record in records)


def test_list_says_what_has_expired(folder: Path, run: Run) -> None:
    record = made(run, "--valid", "1h")
    path = folder / record["id"]
    path.write_text(path.read_text().replace(str(record["created"]), "1").replace(str(record["expires"]), "2"))
    assert "1970-01-01 (expired)" in run("break-glass", "list").stdout


def test_revoke(folder: Path, run: Run) -> None:
    first, second, third = made(run, "--name", "safe"), made(run), made(run)
    done = run("break-glass", "revoke", "safe")
    assert (done.returncode, done.stdout) == (Exit.DONE, "Revoked.\n")
    assert not opens(folder, first["code"])
    assert run("break-glass", "revoke", "break-glass").returncode == Exit.USAGE  # two of that name
    assert run("break-glass", "revoke", second["id"]).returncode == Exit.DONE
    assert not opens(folder, second["code"])
    (folder / "0badc0de").touch()
    assert run("break-glass", "revoke", "--all").stdout == "Revoked 2 codes.\n"
    assert not opens(folder, third["code"])
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code"),
    [([], Exit.USAGE), (["safe", "--all"], Exit.USAGE), (["nothing"], Exit.NOT_FOUND), (["../x"], Exit.NOT_FOUND)],
)
def test_what_revokes_nothing(folder: Path, run: Run, arguments: list[str], code: Exit) -> None:
    record = made(run, "--name", "safe")
    assert run("break-glass", "revoke", *arguments).returncode == code
    assert opens(folder, record["code"])


@pytest.mark.parametrize("words", [["create"], ["list"], ["revoke", "--all"]])
def test_it_is_for_root_alone(host: Path, words: list[str]) -> None:
    done = subprocess.run(
        [*AS_SOMEBODY, *command(host, "break-glass", *words)], capture_output=True, text=True, env=environment()
    )
    assert (done.returncode, done.stdout) == (Exit.REFUSED, "")
    assert f"run: sudo pam-mfa break-glass {words[0]}" in done.stderr


def test_the_log_is_told_but_not_the_code(host: Path, run: Run) -> None:
    (host / "dev").mkdir()
    log = SyslogSocket(host / "dev/log")
    try:
        record = made(run, "--name", "safe", "--user", "root")
        run("break-glass", "revoke", "--all")
        lines = log.lines()
    finally:
        log.close()
    assert [line.partition(": ")[2].split(" role")[0] for line in lines] == [
        "break-glass DONE reason=created",
        "break-glass DONE reason=revoked",
    ]
    for line in lines:
        assert f"credential={record['id']}" in line
        assert 'user="root" label="safe"' in line
        assert fold(record["code"])[:8] not in line.replace("-", "")


def test_without_a_log_that_is_said_and_the_code_is_made(host: Path, run: Run) -> None:
    done = run("break-glass", "create")
    assert done.returncode == Exit.DONE
    assert done.stderr == "pam-mfa: no log has taken a record of this\n"


# doctor


def found(host: Path) -> list[tuple[str, str, str]]:
    return [(finding.severity.value, finding.found, finding.fix) for finding in checks.check(Paths(host))]


def test_doctor_counts_the_codes(host: Path, run: Run) -> None:
    place = ("ok", "/var/lib/pam-mfa-break-glass", "")
    none = "there is no unused code: pam-mfa break-glass create makes one to lock away"
    assert found(host) == [place, ("ok", none, "")]
    made(run)
    assert found(host) == [place, ("ok", "1 unused code", "")]
    made(run)
    assert found(host) == [place, ("ok", "2 unused codes", "")]


def expire(folder: Path, path: Path) -> None:
    """Its time is over."""
    content = json.loads(path.read_bytes()) | {"created": 1, "expires": 2}
    path.write_text(json.dumps(content))


def damage(folder: Path, path: Path) -> None:
    path.write_text("")


def take_over(folder: Path, path: Path) -> None:
    os.chown(path, SERVICE_UID, SERVICE_UID)


@pytest.mark.parametrize("change", [expire, damage, take_over])
def test_doctor_warns_of_codes_that_open_nothing(
    host: Path, folder: Path, run: Run, change: Callable[[Path, Path], None]
) -> None:
    name = made(run)["id"]
    change(folder, folder / name)
    assert wrong(checks.check(Paths(host))) == [("break-glass", "warn")]
    assert found(host)[1][2] == f"run: pam-mfa break-glass revoke {name}"
    assert "no unused code" in found(host)[2][1]


@pytest.mark.parametrize(
    ("uid", "gid", "mode"),
    [
        (0, SERVICE_UID, 0o777), (0, SERVICE_UID, 0o775), (0, SERVICE_UID, 0o750), (0, 0, 0o770), (0, 0, 0o700),
        (SERVICE_UID, SERVICE_UID, 0o770),
    ],
)  # fmt: skip
def test_doctor_finds_a_directory_that_is_not_as_it_must_be(
    host: Path, folder: Path, uid: int, gid: int, mode: int
) -> None:
    os.chown(folder, uid, gid)
    folder.chmod(mode)
    assert wrong(checks.check(Paths(host))) == [("break-glass", "bad")]
    (fix,) = [fix for severity, _, fix in found(host) if severity == "bad"]
    assert fix.startswith(("chmod 0770 ", "chown root: ", "chgrp pam-mfa "))


def test_doctor_finds_no_directory(host: Path, folder: Path) -> None:
    folder.rmdir()
    assert wrong(checks.check(Paths(host))) == [("break-glass", "bad")]
