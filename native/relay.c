#include "relay.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>

enum { SLICE_MS = 200, IDLE_MS = 15000, MAX_DELAY_MS = 10000, MAX_FRAMES = 512 };

static const int stop_signals[] = {SIGINT, SIGQUIT, SIGTERM, SIGHUP};
#define STOPS (sizeof stop_signals / sizeof *stop_signals)

int64_t relay_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

bool relay_end(struct session *s, int code, const char *why, int error) {
    s->result = code;
    s->why = why;
    s->error = error;
    return false;
}

static bool broken(struct session *s, const char *why, int error) {
    return relay_end(s, PAM_AUTHINFO_UNAVAIL, why, error);
}

/* Sends s->frame and wipes it: it may hold an answer. */
static bool send_frame(struct session *s) {
    ssize_t sent;
    do
        sent = send(s->fd, s->frame.bytes, s->frame.size, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    int error = errno;
    explicit_bzero(s->frame.bytes, s->frame.size);
    return sent > 0 || broken(s, "the peer takes no more frames", error);
}

static bool give_up(struct session *s, int code, const char *why) {
    frame_start(&s->frame, FRAME_ABORT);
    send_frame(s); /* a peer that is gone has given up too */
    return relay_end(s, code, why, 0);
}

/* HELLO, and a frame for each line of SSH_AUTH_INFO_0; a line that does not fit a frame is left out. */
static bool send_hello(struct session *s) {
    const char *lines[WIRE_MAX_AUTHINFO], *rest = s->authinfo ? s->authinfo : "";
    uint32_t count = 0;
    for (size_t size; *rest && count < WIRE_MAX_AUTHINFO; rest += size + strspn(rest + size, "\n"))
        if ((size = strcspn(rest, "\n")) > 0 && size <= WIRE_MAX_PAYLOAD)
            lines[count++] = rest;
    s->hello.authinfo = count;
    if (getrandom(s->hello.nonce, WIRE_NONCE, 0) != WIRE_NONCE || !frame_hello(&s->frame, &s->hello))
        return broken(s, "no HELLO could be made", errno);
    bool sent = send_frame(s);
    for (uint32_t i = 0; i < count && sent; i++) {
        frame_start(&s->frame, FRAME_AUTHINFO);
        sent = frame_append(&s->frame, lines[i], strcspn(lines[i], "\n")) && send_frame(s);
    }
    return sent;
}

/* Whether a signal that would end the host waits behind a mask: sudo blocks Ctrl-C while a module runs. */
static bool stop_pending(void) {
    sigset_t pending;
    struct sigaction action;
    sigpending(&pending);
    for (size_t i = 0; i < STOPS; i++)
        if (sigismember(&pending, stop_signals[i]) == 1 && sigaction(stop_signals[i], NULL, &action) == 0 &&
            action.sa_handler != SIG_IGN)
            return true;
    return false;
}

/* Holds the stop signals back, so that ABORT is sent before they end the host; the conversation runs without that. */
static void hold_stops(struct session *s) {
    sigset_t stops;
    sigemptyset(&stops);
    for (size_t i = 0; i < STOPS; i++)
        sigaddset(&stops, stop_signals[i]);
    pthread_sigmask(SIG_BLOCK, &stops, &s->mask);
}

static void release_stops(const struct session *s) { pthread_sigmask(SIG_SETMASK, &s->mask, NULL); }

/* One packet into s->frame. */
static bool receive(struct session *s, int within_ms) {
    int64_t until = relay_now() + within_ms;
    until = until < s->deadline ? until : s->deadline;
    struct pollfd peer = {.fd = s->fd, .events = POLLIN};
    for (ssize_t size; !stop_pending();) {
        int64_t left = until - relay_now();
        if (left <= 0)
            return broken(s, "no frame in time", 0);
        int ready = poll(&peer, 1, left < SLICE_MS ? (int)left : SLICE_MS);
        if (ready == 0 || (ready < 0 && errno == EINTR))
            continue;
        size = ready < 0 ? -1 : recv(s->fd, s->frame.bytes, sizeof s->frame.bytes, MSG_DONTWAIT);
        if (size < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (size <= 0)
            return broken(s, "the peer hung up", size < 0 ? errno : 0);
        s->frame.size = (size_t)size;
        s->frames++;
        return true;
    }
    return give_up(s, PAM_ABORT, "interrupted by a signal");
}

static bool send_answer(struct session *s, const char *answer) {
    if (!answer || strlen(answer) > WIRE_MAX_REPLY)
        return give_up(s, PAM_CONV_ERR, answer ? "the answer is too long" : "the conversation gave no answer");
    if (relay_now() >= s->deadline)
        return give_up(s, PAM_AUTHINFO_UNAVAIL, "the answer came after the deadline");
    frame_start(&s->frame, FRAME_REPLY);
    return frame_append(&s->frame, answer, strlen(answer)) && send_frame(s);
}

/* Shows the frame's text, which follows `skip` bytes of its payload; a prompt's answer goes back. */
static bool converse(struct session *s, int style, size_t skip) {
    const struct pam_message message = {style, frame_text(&s->frame, skip)}, *messages = &message;
    struct pam_response *response = NULL;
    const struct pam_conv *conv = NULL;
    int code = PAM_CONV_ERR;
    if (!message.msg)
        return broken(s, "a text is missing or holds a NUL", 0);
    release_stops(s);
    if (pam_get_item(s->pam, PAM_CONV, (const void **)&conv) == PAM_SUCCESS && conv && conv->conv)
        code = conv->conv(1, &messages, &response, conv->appdata_ptr);
    hold_stops(s);
    if (code != PAM_SUCCESS)
        return give_up(s, PAM_CONV_ERR, "the conversation failed"); /* then its response is not ours */
    char *answer = response ? response->resp : NULL;
    bool go_on = style == PAM_TEXT_INFO || style == PAM_ERROR_MSG || send_answer(s, answer);
    if (answer)
        explicit_bzero(answer, strlen(answer));
    free(answer);
    free(response);
    return go_on;
}

/* The one table from outcome to PAM code, and the one way to PAM_SUCCESS. */
static bool finish(struct session *s) {
    static const struct verdict {
        int outcome, code;
        const char *why;
    } verdicts[] = {
        {OUTCOME_GRANTED, PAM_SUCCESS, "granted"},
        {OUTCOME_EXEMPT, PAM_IGNORE, "exempt"},
        {OUTCOME_DENIED, PAM_AUTH_ERR, "denied"},
        {OUTCOME_LOCKED, PAM_AUTH_ERR, "locked"},
        {OUTCOME_TRIES_SPENT, PAM_MAXTRIES, "tries spent"},
        {OUTCOME_UNAVAILABLE, PAM_AUTHINFO_UNAVAIL, "unavailable (the service's log says why)"},
        {OUTCOME_ABORTED, PAM_ABORT, "aborted"},
    };
    uint32_t delay_ms;
    uint8_t outcome;
    if (!frame_result(&s->frame, s->hello.nonce, &outcome, &delay_ms))
        return broken(s, "RESULT with a wrong size or nonce", 0);
    if (delay_ms > 0)
        pam_fail_delay(s->pam, 1000 * (delay_ms < MAX_DELAY_MS ? delay_ms : MAX_DELAY_MS));
    for (size_t i = 0; i < sizeof verdicts / sizeof *verdicts; i++)
        if (verdicts[i].outcome == outcome)
            return relay_end(s, verdicts[i].code, verdicts[i].why, 0);
    return broken(s, "RESULT with an unknown outcome", 0);
}

/* Does what the frame says; false when the session has ended. */
static bool obey(struct session *s) {
    if (!frame_valid(&s->frame) || s->frames > MAX_FRAMES)
        return broken(s, "a malformed frame, or too many", 0);
    switch (s->frame.bytes[1]) {
    case FRAME_ASK:
        return converse(s, PAM_PROMPT_ECHO_ON, 0);
    case FRAME_ASK_SECRET:
        return converse(s, PAM_PROMPT_ECHO_OFF, 0);
    case FRAME_TELL: /* what may be skipped is told like the rest: PAM has no way to skip */
        return converse(s, PAM_TEXT_INFO, 1);
    case FRAME_WARN:
        return converse(s, PAM_ERROR_MSG, 0);
    case FRAME_ALIVE:
        return s->frame.size == WIRE_HEADER || broken(s, "ALIVE with a payload", 0);
    case FRAME_RESULT:
        return finish(s);
    default:
        return broken(s, "a frame of an unknown type or out of turn", 0);
    }
}

void relay(struct session *s, int first_ms) {
    int within_ms = first_ms;
    s->frames = 0;
    hold_stops(s);
    if (send_hello(s))
        while (receive(s, within_ms) && obey(s))
            within_ms = IDLE_MS;
    release_stops(s);
    explicit_bzero(&s->frame, sizeof s->frame);
    explicit_bzero(s->hello.nonce, WIRE_NONCE);
}
