"""Writes the C of pam_mfa._native._frames: the shim's frame codec (wire.c), for tests that hold it against wire.py."""

from __future__ import annotations

import sys

from cffi import FFI

ffi = FFI()
ffi.cdef("""
    #define WIRE_VERSION ...
    #define WIRE_HEADER ...
    #define WIRE_MAX_PAYLOAD ...
    #define WIRE_MAX_FRAME ...
    #define WIRE_RECEIVE ...
    #define WIRE_MAX_REPLY ...
    #define WIRE_MAX_AUTHINFO ...
    #define WIRE_NONCE ...
    #define FLAG_SILENT ...
    #define FLAG_DISALLOW_NULL ...

    enum frame_type {
        FRAME_HELLO, FRAME_REPLY, FRAME_ABORT, FRAME_AUTHINFO, FRAME_ASK, FRAME_ASK_SECRET, FRAME_TELL, FRAME_WARN,
        FRAME_ALIVE, FRAME_RESULT, ...
    };
    enum hello_tag {
        TAG_NONCE, TAG_SERVICE, TAG_USER, TAG_UID, TAG_RUSER, TAG_RHOST, TAG_TTY, TAG_FLAGS, TAG_AUTHINFO, ...
    };
    enum outcome {
        OUTCOME_GRANTED, OUTCOME_EXEMPT, OUTCOME_DENIED, OUTCOME_LOCKED, OUTCOME_TRIES_SPENT, OUTCOME_UNAVAILABLE,
        OUTCOME_ABORTED, ...
    };

    struct hello {
        uint8_t nonce[...];
        char service[...], user[...], ruser[...], rhost[...], tty[...];
        bool known;
        uint32_t uid, flags, authinfo;
    };
    struct frame {
        size_t size;
        uint8_t bytes[...];
    };

    void frame_start(struct frame *frame, enum frame_type type);
    bool frame_append(struct frame *frame, const void *data, size_t size);
    bool frame_hello(struct frame *frame, const struct hello *hello);
    bool frame_valid(const struct frame *frame);
    const char *frame_text(struct frame *frame, size_t skip);
    bool frame_result(const struct frame *frame, const uint8_t *nonce, uint8_t *code, uint32_t *delay_ms);
""")
ffi.set_source("pam_mfa._native._frames", '#include "wire.h"')

if __name__ == "__main__":
    ffi.emit_c_code(sys.argv[1])
