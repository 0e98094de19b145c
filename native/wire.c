#include "wire.h"

#include <arpa/inet.h>
#include <string.h>

void frame_start(struct frame *frame, enum frame_type type) {
    memcpy(frame->bytes, (uint8_t[]){WIRE_VERSION, (uint8_t)type, 0, 0}, WIRE_HEADER);
    frame->size = WIRE_HEADER;
}

bool frame_append(struct frame *frame, const void *data, size_t size) {
    if (size > WIRE_MAX_FRAME - frame->size)
        return false;
    memcpy(frame->bytes + frame->size, data, size);
    frame->size += size;
    frame->bytes[2] = (uint8_t)((frame->size - WIRE_HEADER) >> 8);
    frame->bytes[3] = (uint8_t)(frame->size - WIRE_HEADER);
    return true;
}

/* A field of HELLO; an empty one is left out. */
static bool field(struct frame *frame, enum hello_tag tag, const void *value, size_t size) {
    uint8_t head[] = {(uint8_t)tag, (uint8_t)(size >> 8), (uint8_t)size};
    return size == 0 || (frame_append(frame, head, sizeof head) && frame_append(frame, value, size));
}

static bool number(struct frame *frame, enum hello_tag tag, uint32_t value) {
    uint32_t big_endian = htonl(value);
    return field(frame, tag, &big_endian, sizeof big_endian);
}

static bool text(struct frame *frame, enum hello_tag tag, const char *value) {
    return field(frame, tag, value, strlen(value));
}

bool frame_hello(struct frame *frame, const struct hello *hello) {
    frame_start(frame, FRAME_HELLO);
    return field(frame, TAG_NONCE, hello->nonce, WIRE_NONCE) && text(frame, TAG_SERVICE, hello->service) &&
           text(frame, TAG_USER, hello->user) && (!hello->known || number(frame, TAG_UID, hello->uid)) &&
           text(frame, TAG_RUSER, hello->ruser) && text(frame, TAG_RHOST, hello->rhost) &&
           text(frame, TAG_TTY, hello->tty) && number(frame, TAG_FLAGS, hello->flags) &&
           number(frame, TAG_AUTHINFO, hello->authinfo);
}

bool frame_valid(const struct frame *frame) {
    return frame->size >= WIRE_HEADER && frame->size <= WIRE_MAX_FRAME && frame->bytes[0] == WIRE_VERSION &&
           frame->size - WIRE_HEADER == (size_t)(frame->bytes[2] << 8 | frame->bytes[3]);
}

const char *frame_text(struct frame *frame, size_t skip) {
    if (frame->size < WIRE_HEADER + skip)
        return NULL;
    char *start = (char *)frame->bytes + WIRE_HEADER + skip;
    size_t length = frame->size - WIRE_HEADER - skip;
    start[length] = '\0'; /* a valid frame leaves one byte */
    return strlen(start) == length ? start : NULL;
}

bool frame_result(const struct frame *frame, const uint8_t *nonce, uint8_t *code, uint32_t *delay_ms) {
    const uint8_t *payload = frame->bytes + WIRE_HEADER;
    if (frame->size != WIRE_HEADER + 1 + sizeof *delay_ms + WIRE_NONCE)
        return false;
    *code = payload[0];
    memcpy(delay_ms, payload + 1, sizeof *delay_ms);
    *delay_ms = ntohl(*delay_ms);
    return memcmp(payload + 1 + sizeof *delay_ms, nonce, WIRE_NONCE) == 0;
}
