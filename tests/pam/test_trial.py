"""`pam-mfa test`: a real PAM transaction, its prompts at a real terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import termios
from pathlib import Path

import pexpect
import pytest

from pam_mfa.cli.exits import Exit

PERMIT = "auth required pam_permit.so\naccount required pam_permit.so\n"
UNIX = "auth optional pam_echo.so hello\x1b[31m\nauth required pam_unix.so nodelay\naccount required pam_permit.so\n"
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TERM": "xterm", "PYTHONPATH": os.pathsep.join(sys.path)}


def command(confdir: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "pam_mfa.cli", "test", "--confdir", str(confdir), *arguments]


def run(confdir: Path, *arguments: str, input: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(confdir, *arguments), input=input, capture_output=True, text=True, timeout=60, env=ENVIRONMENT
    )


@pytest.fixture
def confdir(tmp_path: Path) -> Path:
    """PAM files."""
    files = {
        "open": PERMIT,
        "closed": PERMIT.replace("auth required pam_permit", "auth required pam_deny"),
        "expired": PERMIT.replace("account required pam_permit.so", "account required pam_debug.so acct=acct_expired"),
        "unix": UNIX,
        "broken": "auth required \\\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_login_that_would_succeed(confdir: Path) -> None:
    done = run(confdir, "open")
    assert (done.returncode, done.stderr) == (Exit.DONE, "")
    assert done.stdout == "authenticate: PAM_SUCCESS (Success)\nacct_mgmt: PAM_SUCCESS (Success)\n"


@pytest.mark.parametrize(
    ("service", "steps"),
    [
        ("closed", [("authenticate", 7, "PAM_AUTH_ERR")]),
        ("expired", [("authenticate", 0, "PAM_SUCCESS"), ("acct_mgmt", 13, "PAM_ACCT_EXPIRED")]),
    ],
)
def test_a_login_that_would_fail(confdir: Path, service: str, steps: list[tuple[str, int, str]]) -> None:
    done = run(confdir, service, "--json", "--user", "nobody")
    assert done.returncode == Exit.REFUSED
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(record["step"], record["code"], record["name"]) for record in records] == steps
    assert {record["kind"] for record in records} == {"pam"}
    assert done.stderr.splitlines()[-1] == f"pam-mfa: {service} would not let nobody in; the code above says why"


def test_an_answer_from_a_pipe(confdir: Path) -> None:
    done = run(confdir, "unix", "--user", "nobody", input="wrong\n")
    assert done.returncode == Exit.REFUSED
    assert done.stdout == "authenticate: PAM_AUTH_ERR (Authentication failure)\n"
    assert done.stderr.splitlines()[:2] == ["hello [31m", "Password: "]
    assert "wrong" not in done.stderr


def test_a_hidden_prompt_and_giving_up_at_it(confdir: Path) -> None:
    program, *rest = command(confdir, "unix", "--user", "nobody")
    child = pexpect.spawn(program, rest, env=ENVIRONMENT, encoding="utf-8", timeout=30)
    child.expect_exact("Password: ")
    assert not termios.tcgetattr(child.child_fd)[3] & termios.ECHO
    child.sendintr()
    child.expect_exact("pam-mfa: aborted")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == Exit.ABORTED


@pytest.mark.parametrize("service", ["absent", "../open", "/etc/pam.d/other", ""])
def test_no_such_service(confdir: Path, service: str) -> None:
    done = run(confdir, service)
    assert (done.returncode, done.stdout) == (Exit.NOT_FOUND, "")


def test_a_file_that_libpam_refuses(confdir: Path) -> None:
    done = run(confdir, "broken")
    assert done.returncode == Exit.UNAVAILABLE
    assert "PAM_ABORT" in done.stderr
