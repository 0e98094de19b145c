/* One session of relay.c without PAM and without a service: the peer's packets are all queued before it starts. */
#ifndef RELAY_SESSION_H
#define RELAY_SESSION_H

#include "relay.h"

/* The nonce that the next session will draw; getrandom() is replaced by it. */
extern uint8_t session_nonce[WIRE_NONCE];

/* How the host answers: one byte for each message, used in turn (see converse in relay_session.c). */
struct host {
    const uint8_t *moods;
    size_t count, next;
    unsigned answered;
};

struct packet {
    const uint8_t *bytes;
    size_t size;
};

/* Whether this packet is the one that may let somebody in. */
bool is_grant(struct packet packet);

/* Runs the session and returns its PAM code. Packets that the socket takes no more are left out. */
int run_session(const struct packet *packets, size_t count, const char *authinfo, struct host *host);

#endif
