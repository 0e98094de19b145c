/* Frames of the wire protocol, version 1 (PROTOCOL.md). No sockets, no allocation. */
#ifndef PAM_MFA_WIRE_H
#define PAM_MFA_WIRE_H

#include "name.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    WIRE_VERSION = 1,
    WIRE_HEADER = 4,
    WIRE_MAX_PAYLOAD = 4096,
    WIRE_MAX_FRAME = WIRE_HEADER + WIRE_MAX_PAYLOAD,
    WIRE_RECEIVE = WIRE_MAX_FRAME + 1, /* one more than a frame: a longer packet shows itself */
    WIRE_MAX_REPLY = 512,
    WIRE_MAX_AUTHINFO = 32,
    WIRE_NONCE = 16
};

/* clang-format off */
enum frame_type {
    FRAME_HELLO = 0x01, FRAME_REPLY = 0x02, FRAME_ABORT = 0x03, FRAME_AUTHINFO = 0x05,
    FRAME_ASK = 0x11, FRAME_ASK_SECRET = 0x12, FRAME_TELL = 0x13, FRAME_WARN = 0x14, FRAME_ALIVE = 0x15,
    FRAME_RESULT = 0x1f
};

enum hello_tag {
    TAG_NONCE = 0x01, TAG_SERVICE = 0x02, TAG_USER = 0x03, TAG_UID = 0x04, TAG_RUSER = 0x05, TAG_RHOST = 0x06,
    TAG_TTY = 0x07, TAG_FLAGS = 0x08, TAG_AUTHINFO = 0x09
};

enum { FLAG_SILENT = 0x1, FLAG_DISALLOW_NULL = 0x2, TELL_SKIPPABLE = 0x1 };

/* Code words that differ in four bits at least, none near 0 or 1 (pam_mfa/outcome.py). */
enum outcome {
    OUTCOME_GRANTED = 0xa5, OUTCOME_EXEMPT = 0x3c, OUTCOME_DENIED = 0x66, OUTCOME_LOCKED = 0x99,
    OUTCOME_TRIES_SPENT = 0x0f, OUTCOME_UNAVAILABLE = 0xf0, OUTCOME_ABORTED = 0xc3
};
/* clang-format on */

/* What the shim says first; the sizes of the arrays are the limits. */
struct hello {
    uint8_t nonce[WIRE_NONCE];
    char service[64 + 1], user[MAX_NAME + 1], ruser[256 + 1], rhost[256 + 1], tty[128 + 1];
    bool known; /* there is such a user, and this is its uid: */
    uint32_t uid, flags, authinfo;
};

struct frame {
    size_t size; /* bytes in use, header included */
    uint8_t bytes[WIRE_RECEIVE];
};

/* Building: false where it does not fit; then the frame must not be sent. */
void frame_start(struct frame *frame, enum frame_type type);
bool frame_append(struct frame *frame, const void *data, size_t size);
bool frame_hello(struct frame *frame, const struct hello *hello);

/* Reading what was received: exactly one frame? Only then the others may be called. */
bool frame_valid(const struct frame *frame);
/* The payload from `skip` bytes on as a C string, NULL where it holds a NUL. */
const char *frame_text(struct frame *frame, size_t skip);
/* RESULT: its code and delay; false where its size or nonce is wrong. */
bool frame_result(const struct frame *frame, const uint8_t *nonce, uint8_t *code, uint32_t *delay_ms);

#endif
