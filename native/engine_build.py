"""Writes the C that joins engine_main.c and Python: pam_mfa_run() calls pam_mfa.engine, or a service beside it."""

from __future__ import annotations

import sys

from cffi import FFI

ffi = FFI()
ffi.embedding_api("int pam_mfa_run(const char *role, const char *sockets);")
ffi.set_source("_pam_mfa_engine", "")
# cffi's own answer to a failed start is 0, so 0 must mean "failed": every answer of Python's carries 0x100.
# An exception is named by type and place only: its text could hold what a user typed.
ffi.embedding_init_code("""
    from _pam_mfa_engine import ffi

    def report(kind, error, trace):
        import os
        import syslog
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else "?"
        line = f"pam-mfa: {kind.__name__} at {place}"
        os.write(2, f"{line}\\n".encode())
        syslog.syslog(syslog.LOG_AUTHPRIV | syslog.LOG_ALERT, line)

    def run(role, fds):
        if role in ("device", "broker", "verify", "checker"):  # with nothing of the store in the process
            from socket import socket
            if role in ("device", "broker"):
                from pam_mfa.devices import service
            else:
                from pam_mfa.verify import service
            if "connection" in fds:
                return service.serve_one(socket(fileno=fds["connection"]))
            return service.serve(socket(fileno=fds[role]))
        from pam_mfa import engine
        return engine.run(role, fds)

    @ffi.def_extern(error=0, onerror=report)
    def pam_mfa_run(role, sockets):
        pairs = (item.split("=") for item in ffi.string(sockets).decode().split(",") if item)
        status = run(ffi.string(role).decode(), {name: int(fd) for name, fd in pairs})
        return 0x100 | (status & 0xFF)
""")

if __name__ == "__main__":
    ffi.emit_c_code(sys.argv[1])
