/* pam_mfa.so: hands a login to pam-mfad or to the engine and tells PAM the outcome. Knows frames, never a factor. */
#include "name.h"
#include "relay.h"
#include "spawn.h"

#include <errno.h>
#include <pwd.h>
#include <security/pam_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#ifndef PAM_MFA_RUNDIR
#define PAM_MFA_RUNDIR "/run/pam-mfa"
#endif
#ifndef PAM_MFA_LIBEXEC
#define PAM_MFA_LIBEXEC "/usr/lib/pam-mfa"
#endif
#define EXPORT __attribute__((visibility("default")))

enum { CONNECT_MS = 1000, FIRST_MS = 2000, ENGINE_FIRST_MS = 5000 };
enum { MIN_TIMEOUT = 5, MAX_TIMEOUT = 600, MIN_ENTRY = 1024, MAX_ENTRY = 1 << 20 };

struct options {
    const char *socket, *engine;
    long timeout; /* seconds for the whole login, 0: what fits the service */
    bool debug;
};

static long seconds(const char *text) {
    char *end;
    long value = strtol(text, &end, 10);
    return !*end && value >= MIN_TIMEOUT && value <= MAX_TIMEOUT ? value : 0;
}

static struct options read_options(pam_handle_t *pam, int argc, const char **argv) {
    struct options o = {geteuid() == 0 ? PAM_MFA_RUNDIR "/priv.sock" : PAM_MFA_RUNDIR "/user.sock",
                        PAM_MFA_LIBEXEC "/pam-mfa-engine", 0, false};
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "socket=", 7) == 0)
            o.socket = argv[i] + 7;
        else if (strncmp(argv[i], "engine=", 7) == 0)
            o.engine = argv[i] + 7;
        else if (strncmp(argv[i], "timeout=", 8) == 0 && seconds(argv[i] + 8) > 0)
            o.timeout = seconds(argv[i] + 8);
        else if (strcmp(argv[i], "debug") == 0)
            o.debug = true;
        else if (strcmp(argv[i], "alwaysok") == 0)
            pam_syslog(pam, LOG_ALERT, "argument alwaysok is refused: this module never lets everybody in");
        else
            pam_syslog(pam, LOG_WARNING, "argument %d is not known or out of range, ignored: %.40s", i + 1, argv[i]);
    }
    return o;
}

/* Copies an item of printable ASCII; false where it is longer or anything else. */
static bool copy_item(pam_handle_t *pam, int item, char *copy, size_t size) {
    const char *value = NULL;
    if (pam_get_item(pam, item, (const void **)&value) != PAM_SUCCESS)
        return false;
    size_t length = value ? strnlen(value, size) : 0;
    for (size_t i = 0; i < length; i++)
        if (value[i] < ' ' || value[i] > '~')
            return false;
    memcpy(copy, value ? value : "", length < size ? length + 1 : 0);
    return length < size;
}

static bool read_items(struct session *s, int flags) {
    struct hello *hello = &s->hello;
    const char *user; /* libpam asks for the name where the host has not given one */
    if (pam_get_user(s->pam, &user, NULL) != PAM_SUCCESS)
        return relay_end(s, PAM_CONV_ERR, "no user name", 0);
    if (!copy_item(s->pam, PAM_USER, hello->user, sizeof hello->user) || !portable(hello->user)) {
        hello->user[0] = '\0'; /* not for the log */
        return relay_end(s, PAM_AUTH_ERR, "the user name is not portable", 0);
    }
    if (!copy_item(s->pam, PAM_SERVICE, hello->service, sizeof hello->service) || !hello->service[0] ||
        !copy_item(s->pam, PAM_RUSER, hello->ruser, sizeof hello->ruser) ||
        !copy_item(s->pam, PAM_RHOST, hello->rhost, sizeof hello->rhost) ||
        !copy_item(s->pam, PAM_TTY, hello->tty, sizeof hello->tty))
        return relay_end(s, PAM_AUTH_ERR, "service, ruser, rhost or tty is too long or not printable ASCII", 0);
    hello->flags |= flags & PAM_SILENT ? FLAG_SILENT : 0;
    hello->flags |= flags & PAM_DISALLOW_NULL_AUTHTOK ? FLAG_DISALLOW_NULL : 0;
    if (geteuid() == 0 && strcmp(hello->service, "sshd") == 0)
        s->authinfo = pam_getenv(s->pam, "SSH_AUTH_INFO_0");
    return true;
}

static bool find_uid(struct session *s) {
    int error = ERANGE;
    for (size_t size = MIN_ENTRY; error == ERANGE && size <= MAX_ENTRY; size *= 4) {
        struct passwd entry, *found = NULL;
        char *buffer = malloc(size);
        error = buffer ? getpwnam_r(s->hello.user, &entry, buffer, size, &found) : ENOMEM;
        s->hello.known = error == 0 && found;
        s->hello.uid = s->hello.known ? entry.pw_uid : 0;
        free(buffer);
    }
    return error == 0 || relay_end(s, PAM_AUTHINFO_UNAVAIL, "the user database does not answer", error);
}

/* Whether the socket's directory is root's alone, so that only root can have put a socket there. */
static bool trusted(struct session *s, const char *path, bool *absent) {
    char directory[sizeof((struct sockaddr_un *)0)->sun_path];
    struct stat found;
    if (path[0] != '/' || !strchr(path + 1, '/') || strlen(path) >= sizeof directory)
        return relay_end(s, PAM_AUTHINFO_UNAVAIL, "socket= must be /DIRECTORY/NAME and short", 0);
    strcpy(directory, path);
    *strrchr(directory + 1, '/') = '\0';
    if (lstat(directory, &found) == 0)
        return only_root_writes(&found, S_IFDIR) ||
               relay_end(s, PAM_AUTHINFO_UNAVAIL, "others than root may write to the socket's directory", EPERM);
    *absent = errno == ENOENT;
    return relay_end(s, PAM_AUTHINFO_UNAVAIL, "the socket's directory", errno);
}

/* Connects s->fd to a listener that is root; *absent where nobody serves there. */
static bool connect_service(struct session *s, const char *path, bool *absent) {
    const struct timeval limit = {.tv_sec = CONNECT_MS / 1000}; /* of a full backlog, and of every send */
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct ucred listener = {.uid = (uid_t)-1};
    socklen_t size = sizeof listener;
    int64_t until = relay_now() + CONNECT_MS;
    int refused;
    s->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (s->fd < 0)
        return relay_end(s, PAM_AUTHINFO_UNAVAIL, "socket", errno);
    setsockopt(s->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    strcpy(address.sun_path, path); /* trusted() has measured it */
    do
        refused = connect(s->fd, (struct sockaddr *)&address, sizeof address);
    while (refused && errno == EINTR && relay_now() < until);
    int error = errno;
    if (!refused && getsockopt(s->fd, SOL_SOCKET, SO_PEERCRED, &listener, &size) == 0 && listener.uid == 0)
        return true;
    close(s->fd);
    *absent = refused && (error == ENOENT || error == ECONNREFUSED || error == EAGAIN || error == EINTR);
    return relay_end(s, PAM_AUTHINFO_UNAVAIL, refused ? "connect" : "the listener is not root",
                     refused ? error : EPERM);
}

static void log_why(const struct session *s, const char *what) {
    errno = s->error;
    pam_syslog(s->pam, s->error == EPERM ? LOG_ALERT : LOG_NOTICE, s->error ? "%s, user %s: %s: %m" : "%s, user %s: %s",
               what, s->hello.user, s->why);
}

static void ask_engine(struct session *s, const char *path) {
    struct engine engine;
    log_why(s, "asking the engine, not the service");
    s->fd = engine_start(&engine, path);
    if (s->fd < 0) {
        relay_end(s, PAM_AUTHINFO_UNAVAIL, "the engine", errno);
        return;
    }
    relay(s, ENGINE_FIRST_MS);
    close(s->fd);
    engine_end(&engine);
}

static bool unchanged(pam_handle_t *pam, int item, const char *before) {
    char now[sizeof((struct hello *)0)->user];
    return copy_item(pam, item, now, sizeof now) && strcmp(now, before) == 0;
}

/* The whole login; its PAM code is in s->result, a failure until relay() has met a RESULT. */
static void login(struct session *s, const struct options *o, int flags) {
    bool absent = false; /* nobody serves: the one case in which root may ask the engine */
    if (!read_items(s, flags))
        return;
    long usual = strcmp(s->hello.service, "login") == 0 ? 45 : strcmp(s->hello.service, "sshd") == 0 ? 90 : 180;
    s->deadline = relay_now() + 1000 * (o->timeout > 0 ? o->timeout : usual);
    if (!find_uid(s))
        return;
    if (trusted(s, o->socket, &absent) && connect_service(s, o->socket, &absent)) {
        relay(s, FIRST_MS);
        close(s->fd);
        absent = s->frames == 0 && s->result == PAM_AUTHINFO_UNAVAIL;
    }
    if (absent && geteuid() == 0)
        ask_engine(s, o->engine);
    if (!unchanged(s->pam, PAM_USER, s->hello.user) || !unchanged(s->pam, PAM_SERVICE, s->hello.service) ||
        !unchanged(s->pam, PAM_RHOST, s->hello.rhost))
        relay_end(s, PAM_AUTH_ERR, "user, service or rhost was changed meanwhile", 0);
}

EXPORT int pam_sm_authenticate(pam_handle_t *pam, int flags, int argc, const char **argv) {
    int host_errno = errno;
    struct options o = read_options(pam, argc, argv);
    struct session s = {.pam = pam, .result = PAM_AUTHINFO_UNAVAIL};
    login(&s, &o, flags);
    if (o.debug || (s.result != PAM_SUCCESS && s.result != PAM_IGNORE))
        log_why(&s, pam_strerror(pam, s.result));
    errno = host_errno;
    return s.result;
}

#define FIXED(entry, code)                                                                                             \
    EXPORT int entry(pam_handle_t *pam, int flags, int argc, const char **argv) {                                      \
        (void)pam, (void)flags, (void)argc, (void)argv;                                                                \
        return code;                                                                                                   \
    }
FIXED(pam_sm_setcred, PAM_SUCCESS)
FIXED(pam_sm_acct_mgmt, PAM_IGNORE)
FIXED(pam_sm_open_session, PAM_IGNORE)
FIXED(pam_sm_close_session, PAM_IGNORE)
FIXED(pam_sm_chauthtok, PAM_AUTHTOK_ERR)
