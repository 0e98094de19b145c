"""What an installation needs of a running system: account, key, store, units, and the proof that it works."""

from __future__ import annotations

import fcntl
import os
import pwd
import secrets
import shutil
import subprocess
from pathlib import Path

import pinned
import unenrolled
from files import make_directory, place_bytes
from steps import LIB, StepFailed, environment, report, run

ACCOUNT = "pam-mfa"
ACCOUNTS = (ACCOUNT, "pam-mfa-device", "pam-mfa-verify")
KEY = Path("/etc/pam-mfa/seal.key")
KEY_SIZE = 32
RUN = Path("/run/pam-mfa")
STATE = Path("/var/lib/pam-mfa")
STORE = STATE / "store.db"
BREAK_GLASS = Path("/var/lib/pam-mfa-break-glass")
HELPERS = ("pam-mfa-password", "pam-mfa-device", "pam-mfa-verify")  # services that start when somebody asks
SOCKETS = [f"{name}.socket" for name in ("pam-mfad-priv", "pam-mfad-user", "pam-mfad-manage", *HELPERS)]
RESCUER = "pam-mfa-try.service"  # takes back, after a reboot, what was being tried
COMMAND = "/usr/bin/pam-mfa"
DOCTOR_FINE, DOCTOR_WARNS = 0, 6
NEXT = """
Nobody is asked for anything yet. Next:
  1. Everybody named above runs: pam-mfa enroll
  2. Run, as root: pam-mfa try enable sudo
     That adds below "@include common-auth" in /etc/pam.d/sudo and /etc/pam.d/sudo-i (sudo -i has a file of its own):
       auth [success=ok ignore=ignore default=die] pam_mfa.so
     and takes it back after five minutes, unless you confirm it.
  3. Confirm it in another terminal: sudo pam-mfa try confirm; then run: pam-mfa doctor"""


def systemd_runs() -> bool:
    """Whether systemd is this system's init, as sd_booted(3) finds out."""
    return Path("/run/systemd/system").is_dir()


def accounts() -> None:
    """The system users and their groups, and the directories that have to do with them."""
    missing = [name for name in ACCOUNTS if not exists(name)]
    if missing and shutil.which("systemd-sysusers"):
        run(["systemd-sysusers", "pam-mfa.conf"], f"systemd-sysusers could not make {' and '.join(missing)}, see above")
    elif missing:
        shell = ["--home-dir", "/", "--no-create-home", "--shell", "/usr/sbin/nologin"]
        for name in missing:
            run(["useradd", "--system", "--user-group", *shell, name], f"useradd could not make {name}, see above")
    report("account", f"made {' and '.join(missing)}" if missing else f"{' and '.join(ACCOUNTS)} are there")
    entry = pwd.getpwnam(ACCOUNT)
    make_directory(STATE)
    os.chown(STATE, entry.pw_uid, entry.pw_gid)
    STATE.chmod(0o700)
    make_directory(BREAK_GLASS)
    os.chown(BREAK_GLASS, 0, entry.pw_gid)
    BREAK_GLASS.chmod(0o770)


def exists(name: str) -> bool:
    """Whether there is such a user."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def seal_key() -> None:
    """Make the key that seals the store; one that is there stays. Raises StepFailed where a store lost its key."""
    if STORE.exists() and not KEY.exists():
        raise StepFailed(
            f"{KEY} is missing and {STORE} cannot be read without it: put the key back, "
            f"or move the store away to begin with an empty one"
        )
    try:
        place_bytes(secrets.token_bytes(KEY_SIZE), KEY, 0o400, once=True)
        report("seal key", f"made {KEY}: keep a copy of it where you keep copies of {STATE}")
    except FileExistsError:
        report("seal key", "kept")


def store() -> None:
    """Create the store, or bring it up to this version."""
    done = run([LIB / "pam-mfa-engine", "--prepare"], f"{STORE} could not be prepared, see above")
    report("store", " ".join(done.split()) or "ready")


def runs_by_hand() -> bool:
    """Whether a service holds its lock."""
    try:
        with open(RUN / "pam-mfad.lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def start() -> bool:
    """Start or restart the service where systemd can; returns whether no process of an older version is left."""
    if not systemd_runs() and runs_by_hand():
        report("service", "started by hand, no systemd here: restart it, it is still what it was before")
        return False
    if not systemd_runs():
        for left in RUN.glob("*.sock"):  # by a service that was ended: it has no right to remove them itself
            left.unlink()
        report("service", f"no systemd here: start {LIB}/pam-mfad as root; without it the engine serves root's logins")
        return True
    run(["systemctl", "daemon-reload"], "systemd did not take the units, see above")
    run(["systemctl", "enable", "--quiet", "--now", *SOCKETS], "the sockets did not start, see above")
    run(["systemctl", "enable", "--quiet", "pam-mfad.service", RESCUER], "a service cannot be enabled, see above")
    for name in HELPERS:
        run(["systemctl", "try-restart", f"{name}.service"], f"{name} did not restart: journalctl -u {name}")
    run(["systemctl", "restart", "pam-mfad.service"], "the service did not start: journalctl -u pam-mfad")
    report("service", "running")
    return True


def check() -> None:
    """The command's own examination of the whole, then a login. Raises StepFailed where either finds fault."""
    doctor = subprocess.run([COMMAND, "doctor"], capture_output=True, text=True, env=environment())
    if doctor.returncode not in (DOCTOR_FINE, DOCTOR_WARNS):
        raise StepFailed(f"pam-mfa doctor finds fault\n{doctor.stdout}{doctor.stderr}".rstrip())
    warnings = [line for line in doctor.stdout.splitlines() if not line.startswith("ok ")]
    report("doctor", "\n  ".join(["warnings", *warnings]) if warnings else "all is well")
    trial = Path(__file__).resolve().parent / "trial.py"
    done = subprocess.run([pinned.PYTHON, "-I", "-S", "-B", trial], capture_output=True, text=True, env=environment())
    if done.returncode:
        raise StepFailed(f"trial login: {(done.stdout or done.stderr).strip()}")
    report("trial login", done.stdout.strip())


def advise() -> None:
    """Who is not enrolled, and what to do next."""
    uids = unenrolled.enrolled()
    for who, names in (("sudo", unenrolled.sudoers()), ("a shell", set(unenrolled.shell_users()))):
        missing = unenrolled.without(names, uids)
        report(f"not enrolled, with {who}", ", ".join(missing) or "nobody")
    print(NEXT)
