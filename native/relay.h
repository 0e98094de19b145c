/* One session on a connected socket: HELLO, then the conversation until RESULT. */
#ifndef PAM_MFA_RELAY_H
#define PAM_MFA_RELAY_H

#include "wire.h"

#include <security/pam_modules.h>
#include <signal.h>

struct session {
    pam_handle_t *pam;
    struct hello hello;
    const char *authinfo; /* lines of SSH_AUTH_INFO_0, or NULL */
    int64_t deadline;     /* of the whole login, in relay_now()'s milliseconds */
    int fd;
    unsigned frames; /* received so far; after the first one nobody else may be asked */
    int result;      /* PAM code; its owner starts it as a failure, only a RESULT frame says otherwise */
    const char *why; /* for the log, and the errno that belongs to it, or 0 */
    int error;
    sigset_t mask; /* the host's own */
    struct frame frame;
};

/* Milliseconds of CLOCK_BOOTTIME: goes on during suspend, and nobody can set it. */
int64_t relay_now(void);

/* Ends a step: notes the PAM code and its reason, returns false. */
bool relay_end(struct session *s, int code, const char *why, int error);

/* Serves the session on s->fd; the first frame has first_ms to come. The outcome is in s->result. */
void relay(struct session *s, int first_ms);

#endif
