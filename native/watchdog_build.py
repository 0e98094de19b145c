"""Writes the C of pam_mfa._native._watchdog: watchdog.c for Python programs (device helpers)."""

from __future__ import annotations

import sys

from cffi import FFI

ffi = FFI()
ffi.cdef("int watchdog_arm(int fd, unsigned total_seconds);")
ffi.set_source("pam_mfa._native._watchdog", '#include "watchdog.h"')

if __name__ == "__main__":
    ffi.emit_c_code(sys.argv[1])
