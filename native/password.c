/* pam-mfa-password: tells user pam-mfa whether a password is right for an account, by the PAM service "pam-mfa".
 * Runs as root, listens on fd 3; one connection is one request is one child. Frames: see README.md. */
#include "name.h"
#include "root.h"
#include "watchdog.h"

#include <poll.h>
#include <security/pam_appl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { VERSION = 1, TYPE_PASSWORD = 0x07, TYPE_RESULT = 0x1f, HEADER = 4, FIELD_HEADER = 3, MAX_FRAME = 4100 };
enum { TAG_NONCE = 1, TAG_USER, TAG_PASSWORD };
enum { NONCE = 16, MAX_PASSWORD = 512 };
enum { PROVEN = 0x96, NOT_PROVEN = 0x69 }; /* words of their own: neither is a login's GRANTED */
enum { MAX_CHILDREN = 4, TOTAL_SECONDS = 30, FRAME_SECONDS = 2 };

struct request {
    char nonce[NONCE], user[MAX_NAME + 1], password[MAX_PASSWORD + 1];
    int prompts;
};

/* Moves the next field, which must be this one, from the frame to `text`; its size, or -1. */
static int take_field(const unsigned char **at, const unsigned char *end, int tag, char *text, size_t most) {
    if (end - *at < FIELD_HEADER || (*at)[0] != tag)
        return -1;
    size_t size = (size_t)(*at)[1] << 8 | (*at)[2];
    *at += FIELD_HEADER;
    if (size == 0 || size > most || size > (size_t)(end - *at))
        return -1;
    memcpy(text, *at, size);
    *at += size;
    return (int)size;
}

/* The frame must be a whole PASSWORD frame: nonce, user and password in this order, no NUL in a text, and the user one
 * that a login can have. */
static int read_request(struct request *request, const unsigned char *frame, size_t size) {
    const unsigned char *at = frame + HEADER, *end = frame + size;
    if (size < HEADER || frame[0] != VERSION || frame[1] != TYPE_PASSWORD ||
        ((size_t)frame[2] << 8 | frame[3]) != size - HEADER)
        return 0;
    int nonce = take_field(&at, end, TAG_NONCE, request->nonce, NONCE);
    int user = take_field(&at, end, TAG_USER, request->user, MAX_NAME);
    int password = take_field(&at, end, TAG_PASSWORD, request->password, MAX_PASSWORD);
    return nonce == NONCE && user > 0 && password > 0 && at == end && strlen(request->user) == (size_t)user &&
           strlen(request->password) == (size_t)password && portable(request->user);
}

/* The first hidden prompt gets the password; a stack that asks for more is not for us to answer. */
static int converse(int count, const struct pam_message **messages, struct pam_response **responses, void *data) {
    struct request *request = data;
    int style = count == 1 ? messages[0]->msg_style : -1;
    int text = style == PAM_TEXT_INFO || style == PAM_ERROR_MSG;
    if (!text && (style != PAM_PROMPT_ECHO_OFF || request->prompts++ > 0))
        return PAM_CONV_ERR;
    struct pam_response *answer = calloc(1, sizeof *answer);
    if (!answer || (!text && !(answer->resp = strdup(request->password)))) {
        free(answer);
        return PAM_BUF_ERR;
    }
    *responses = answer;
    return PAM_SUCCESS;
}

static int is_right(struct request *request) {
    const struct pam_conv conversation = {converse, request};
    pam_handle_t *pam = NULL;
    int right = 0;
    if (pam_start("pam-mfa", request->user, &conversation, &pam) != PAM_SUCCESS)
        return 0;
    int code = pam_authenticate(pam, PAM_DISALLOW_NULL_AUTHTOK);
    if (code == PAM_SUCCESS && request->prompts == 1) { /* a stack that asked for nothing has proven nothing */
        code = pam_acct_mgmt(pam, PAM_DISALLOW_NULL_AUTHTOK);
        right = code == PAM_SUCCESS || code == PAM_NEW_AUTHTOK_REQD;
    }
    pam_end(pam, code);
    return right;
}

static _Noreturn void serve(int connection) {
    struct timeval wait = {.tv_sec = FRAME_SECONDS};
    struct request request = {{0}, {0}, {0}, 0};
    unsigned char frame[MAX_FRAME + 1], result[HEADER + 5 + NONCE] = {VERSION, TYPE_RESULT, 0, 5 + NONCE, NOT_PROVEN};
    if (watchdog_arm(connection, TOTAL_SECONDS) ||
        setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) < 0)
        _exit(EXIT_FAILURE);
    ssize_t size = recv(connection, frame, sizeof frame, MSG_TRUNC);
    int whole = size > 0 && size <= MAX_FRAME && read_request(&request, frame, (size_t)size);
    explicit_bzero(frame, sizeof frame);
    if (!whole)
        _exit(EXIT_FAILURE);
    if (is_right(&request))
        result[HEADER] = PROVEN;
    memcpy(result + HEADER + 5, request.nonce, NONCE);
    explicit_bzero(&request, sizeof request);
    send(connection, result, sizeof result, MSG_NOSIGNAL);
    _exit(EXIT_SUCCESS);
}

static void on_child(int number) { (void)number; } /* its coming alone interrupts ppoll() */

/* Forks a child for one caller; returns 1 where there is one now. */
static int accept_one(uid_t allowed, const sigset_t *unblocked) {
    struct ucred peer = {.uid = (uid_t)-1};
    socklen_t size = sizeof peer;
    int connection = accept4(SESSION_FD, NULL, NULL, SOCK_CLOEXEC);
    if (connection < 0)
        return 0;
    int known = getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0;
    pid_t child = known && (peer.uid == allowed || peer.uid == 0) ? fork() : -1;
    if (child == 0) {
        signal(SIGCHLD, SIG_DFL);
        sigprocmask(SIG_SETMASK, unblocked, NULL);
        close(SESSION_FD);
        serve(connection);
    }
    close(connection);
    return child > 0;
}

int main(int argc, char **argv) {
    const struct sigaction action = {.sa_handler = on_child};
    sigset_t chld, unblocked;
    int children = 0;
    (void)argv;
    if (argc != 1 || getuid() != 0 || geteuid() != 0 || !is_seqpacket(SESSION_FD, 1))
        die("pam-mfa-password: must be started by pam-mfad or systemd");
    const uid_t allowed = find_account(SERVICE_ACCOUNT).uid;
    forget_caller();
    clearenv();
    must(close_range(SESSION_FD + 1, ~0U, 0), "close_range");
    must(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "dumpable");
    sigemptyset(&unblocked);
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    must(sigprocmask(SIG_SETMASK, &chld, NULL), "sigprocmask");
    must(sigaction(SIGCHLD, &action, NULL), "sigaction");
    for (;;) {
        /* standard input is /dev/null, or a pipe from pam-mfad that breaks when it ends */
        struct pollfd fds[] = {{.fd = STDIN_FILENO},
                               {.fd = children < MAX_CHILDREN ? SESSION_FD : -1, .events = POLLIN}};
        if (ppoll(fds, 2, NULL, &unblocked) > 0 && fds[0].revents & (POLLHUP | POLLERR))
            _exit(EXIT_SUCCESS);
        else if (fds[1].revents & POLLIN)
            children += accept_one(allowed, &unblocked);
        while (children && waitpid(-1, NULL, WNOHANG) > 0)
            children--;
    }
}
