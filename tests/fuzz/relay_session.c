#include "relay_session.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TOTAL_MS = 5000, FIRST_MS = 2000 };

uint8_t session_nonce[WIRE_NONCE];
static struct pam_conv conversation;
static unsigned delay;

ssize_t getrandom(void *buffer, size_t size, unsigned flags) {
    (void)flags;
    memcpy(buffer, session_nonce, size < WIRE_NONCE ? size : WIRE_NONCE);
    return (ssize_t)size;
}

/* The two functions of libpam that the relay calls. */
int pam_get_item(const pam_handle_t *pam, int item, const void **value) {
    (void)pam;
    *value = item == PAM_CONV ? &conversation : NULL;
    return PAM_SUCCESS;
}

int pam_fail_delay(pam_handle_t *pam, unsigned microseconds) {
    (void)pam;
    delay = microseconds;
    return PAM_SUCCESS;
}

static char *text_of(uint8_t mood) {
    static const size_t sizes[] = {0, 1, 6, 511, 512, 513, 4096, 1 << 20};
    size_t size = sizes[mood % 8];
    char *text = malloc(size + 1);
    memset(text, mood | 1, size);
    text[size] = '\0';
    return text;
}

/* Moods: 0-15 an error, with a response that must not be looked at; 16-31 no response; 32-47 a response without text;
   all others a text whose size and bytes the mood says. */
static int converse(int count, const struct pam_message **messages, struct pam_response **responses, void *data) {
    struct host *host = data;
    uint8_t mood = host->count > 0 ? host->moods[host->next++ % host->count] : 0xff;
    if (count != 1 || strlen(messages[0]->msg) > WIRE_MAX_PAYLOAD)
        abort();
    host->answered++;
    if (mood < 16) {
        *responses = (struct pam_response *)8;
        return mood % 2 ? PAM_CONV_ERR : PAM_CONV_AGAIN;
    }
    *responses = mood < 32 ? NULL : calloc(1, sizeof **responses);
    if (mood >= 48)
        (*responses)->resp = text_of(mood);
    return PAM_SUCCESS;
}

bool is_grant(struct packet packet) {
    static const uint8_t head[] = {WIRE_VERSION, FRAME_RESULT, 0, 1 + 4 + WIRE_NONCE, OUTCOME_GRANTED};
    return packet.size == sizeof head + 4 + WIRE_NONCE && memcmp(packet.bytes, head, sizeof head) == 0 &&
           memcmp(packet.bytes + sizeof head + 4, session_nonce, WIRE_NONCE) == 0;
}

int run_session(const struct packet *packets, size_t count, const char *authinfo, struct host *host) {
    static const struct hello hello = {.service = "sshd", .user = "alice", .rhost = "203.0.113.7", .tty = "ssh"};
    const struct timeval limit = {.tv_sec = 1};
    struct session session = {
        .pam = (pam_handle_t *)&conversation, .result = PAM_AUTHINFO_UNAVAIL, .authinfo = authinfo, .hello = hello};
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        abort();
    for (size_t i = 0; i < count; i++)
        send(ends[1], packets[i].bytes, packets[i].size, MSG_DONTWAIT | MSG_NOSIGNAL);
    shutdown(ends[1], SHUT_WR);
    setsockopt(ends[0], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    conversation = (struct pam_conv){converse, host};
    session.fd = ends[0];
    session.deadline = relay_now() + TOTAL_MS;
    delay = 0;
    relay(&session, FIRST_MS);
    if (delay > 10 * 1000 * 1000 || !session.why)
        abort();
    close(ends[0]);
    close(ends[1]);
    return session.result;
}
