"""logind's files in a machine where no logind runs, and processes put into the cgroups of its sessions."""

from __future__ import annotations

from collections.abc import Mapping

from machine import Machine

FOLDER = "/run/systemd"


class Seats:
    """Sessions of users.

    Args:
        machine: whose /run/systemd is written.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._sessions: dict[int, list[str]] = {}

    def uid(self, user: str) -> int:
        """Of an account of the machine."""
        return int(self._machine.run(["/usr/bin/id", "-u", user]).stdout)

    def open(
        self,
        name: str,
        user: str,
        *,
        seat: str = "",
        state: str = "active",
        remote: bool = False,
        kind: str = "user",
        service: str = "",
        host: str = "",
    ) -> str:
        """Begin a session; returns its cgroup."""
        uid = self.uid(user)
        fields = {
            "UID": uid,
            "USER": user,
            "ACTIVE": int(state == "active"),
            "STATE": state,
            "REMOTE": int(remote),
            "TYPE": "tty",
            "CLASS": kind,
            "SCOPE": f"session-{name}.scope",
            **({"SEAT": seat} if seat else {}),
            **({"SERVICE": service} if service else {}),
            **({"REMOTE_HOST": host} if host else {}),
        }
        self._write(f"sessions/{name}", fields)
        self._sessions.setdefault(uid, []).append(name)
        self._write(f"users/{uid}", {"NAME": user, "STATE": "active", "SESSIONS": " ".join(self._sessions[uid])})
        return f"/user.slice/user-{uid}.slice/session-{name}.scope"

    def manager(self, user: str) -> str:
        """The cgroup of a terminal that a user's service manager has started."""
        uid = self.uid(user)
        return f"/user.slice/user-{uid}.slice/user@{uid}.service/app.slice/app-terminal.scope"

    def put(self, pid: int, cgroup: str) -> None:
        """Have a process be in a cgroup, as /proc says it; the kernel's own tree is not the machine's to change."""
        script = 'cat > "$1" && { mountpoint -q "$2" || mount --bind "$1" "$2"; }'
        command = ["/bin/sh", "-c", script, "put", f"/run/cgroup-{pid}", f"/proc/{pid}/cgroup"]
        self._machine.run(command, input=f"1:name=systemd:{cgroup}\n0::{cgroup}\n")

    def _write(self, path: str, fields: Mapping[str, object]) -> None:
        text = "".join(f"{name}={value}\n" for name, value in fields.items())
        self._machine.write(f"{FOLDER}/{path}", f"# This is private data. Do not parse.\n{text}")
