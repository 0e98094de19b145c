/* One executable, four programs: pam-mfad (the service), pam-mfa-engine (one session on fd 3, or --manage, --prepare),
 * pam-mfa-device (security keys and cards) and pam-mfa-verify (certificate paths). While it is root it runs this file
 * and root.c only; Python starts after the drop. See README.md. */
#include <Python.h>

#include "root.h"
#include "watchdog.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KEY_DIRECTORY "/etc/pam-mfa"
enum { EXIT_MISUSE = 2, SLOTS = 8, SLOT_TRIES = 50 };
enum { ENGINE_SECONDS = 190, MANAGE_SECONDS = 900 }; /* above every deadline that Python keeps by itself */
enum { BROKER_END_MS = 500 };                        /* for it to cancel what a device still does */
#define FOREVER ~0U
enum role { SERVICE, ENGINE, MANAGE, PREPARE, DEVICE, BROKER, VERIFY, CHECKER };
static const char *const ROLE_NAMES[] = {"service", "engine", "manage", "prepare",
                                         "device",  "broker", "verify", "checker"};
enum { MOST_LISTENERS = 3 };
static const char *const SERVICE_LISTENERS[] = {"priv", "user", "manage", NULL};

/* Programs beside the service, each with an account of its own, which is also their file's name. */
struct helper {
    const char *account, *socket, *listeners[2];
    enum role one; /* what serves one connection of the engine's */
    int engine_fd; /* where the engine hands connections over */
    const char *engine_name;
};
enum { HELPERS = 2 };
static const struct helper HELPER[HELPERS] = {
    {"pam-mfa-device", "device.sock", {"device", NULL}, BROKER, DEVICES_FD, "devices"},
    {"pam-mfa-verify", "verify.sock", {"verify", NULL}, CHECKER, VERIFY_FD, "verify"},
};

int pam_mfa_run(const char *role, const char *sockets); /* engine_build.py; 0 = Python failed, else RUN_DONE | status */
enum { RUN_DONE = 0x100 };

static char sockets[96]; /* what Python is told of: "priv=10,user=11,manage=12" */
static int broker = -1;  /* the engine's, for devices; a pidfd */

static _Noreturn void misuse(const char *message) {
    dprintf(STDERR_FILENO, "pam-mfa: %s\n", message);
    _exit(EXIT_MISUSE);
}

static enum role role_of(int argc, char **argv) {
    const char *name = argc ? argv[0] : "", *slash = strrchr(name, '/');
    name = slash ? slash + 1 : name;
    if (!strcmp(name, "pam-mfad") && argc == 1)
        return SERVICE;
    if (!strcmp(name, "pam-mfa-device") && argc == 1)
        return DEVICE;
    if (!strcmp(name, "pam-mfa-verify") && argc == 1)
        return VERIFY;
    if (!strcmp(name, "pam-mfa-engine") && argc == 1)
        return ENGINE;
    if (!strcmp(name, "pam-mfa-engine") && argc == 2 && !strcmp(argv[1], "--manage"))
        return MANAGE;
    if (!strcmp(name, "pam-mfa-engine") && argc == 2 && !strcmp(argv[1], "--prepare"))
        return PREPARE;
    misuse("not started as pam-mfad, pam-mfa-device, pam-mfa-verify or pam-mfa-engine [--manage | --prepare]");
}

static void clean_environment(void) {
    static const char *const names[] = {"NOTIFY_SOCKET",  "WATCHDOG_USEC", "WATCHDOG_PID",   "CREDENTIALS_DIRECTORY",
                                        "JOURNAL_STREAM", "LISTEN_FDS",    "LISTEN_FDNAMES", "LISTEN_PID"};
    enum { NAMES = sizeof names / sizeof *names };
    const char *values[NAMES];
    for (int i = 0; i < NAMES; i++)
        values[i] = getenv(names[i]);
    must(clearenv(), "clearenv");
    for (int i = 0; i < NAMES; i++)
        if (values[i])
            must(setenv(names[i], values[i], 1), names[i]);
}

static void add_socket(const char *name, int fd) {
    size_t used = strlen(sockets);
    snprintf(sockets + used, sizeof sockets - used, "%s%s=%d", used ? "," : "", name, fd);
}

/* systemd's sockets: each of the wanted ones once, in any order. */
static void take_sockets(const char *const *wanted) {
    const char *pid = getenv("LISTEN_PID"), *given = getenv("LISTEN_FDNAMES");
    char names[64], *rest = names, count[2] = "0";
    unsigned seen = 0;
    while (wanted[count[0] - '0'])
        count[0]++;
    if (!pid || atol(pid) != getpid() || strcmp(getenv("LISTEN_FDS"), count))
        die("LISTEN_PID or LISTEN_FDS: %s socket%s for this process needed", count, wanted[1] ? "s are" : " is");
    snprintf(names, sizeof names, "%s", given ? given : "");
    for (int i = 0; wanted[i]; i++) {
        const char *name = strsep(&rest, ":");
        for (int j = 0; name && wanted[j]; j++)
            seen |= !strcmp(name, wanted[j]) ? 1U << j : 0;
        if (!is_seqpacket(SESSION_FD + i, 1))
            die("LISTEN_FDS: not a listening SOCK_SEQPACKET socket of AF_UNIX");
        int moved = keep_open(SESSION_FD + i);
        must(fcntl(moved, F_SETFL, O_NONBLOCK), "LISTEN_FDS");
        add_socket(name ? name : "", moved);
    }
    if (rest || seen != (1U << (count[0] - '0')) - 1)
        die("LISTEN_FDNAMES must be %s", wanted[1] ? "priv, user and manage" : wanted[0]);
}

static const struct helper *helper_of(enum role role) {
    return role == DEVICE ? &HELPER[0] : role == VERIFY ? &HELPER[1] : NULL;
}

static void bind_sockets(struct account account) {
    struct account other;
    check_run_directory();
    if (lock_file("pam-mfad.lock") < 0)
        die("another pam-mfad is running");
    offer_pending_directory(account);
    add_socket("priv", listen_on("priv.sock", 0, 0600));
    add_socket("user", listen_on("user.sock", 0, 0666));
    add_socket("manage", listen_on("manage.sock", 0, 0666));
    start_helper("pam-mfa-password", listen_on("password.sock", account.uid, 0600));
    for (const struct helper *helper = HELPER; helper < HELPER + HELPERS; helper++)
        if (look_for_account(helper->account, &other)) /* where there is none, the other factors go on */
            start_helper(helper->account, listen_on(helper->socket, account.uid, 0600));
}

static void take_slot(void) {
    const struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};
    char name[] = "engine-0.lock";
    check_run_directory();
    for (int attempt = 0; attempt < SLOT_TRIES; attempt++) {
        for (int slot = 0; slot < SLOTS; slot++) {
            name[7] = (char)('0' + slot);
            if (lock_file(name) == 0)
                return;
        }
        nanosleep(&pause, NULL);
    }
    die("all %d engines are busy", SLOTS);
}

/* With systemd's sockets they come first: they are 3, 4 and 5, and the key shall be 4. */
static void start_service(struct account account, int by_systemd) {
    const char *credentials = getenv("CREDENTIALS_DIRECTORY");
    if (by_systemd)
        take_sockets(SERVICE_LISTENERS);
    if (geteuid() == 0)
        open_key(KEY_DIRECTORY, 0, 077);
    else if (credentials)
        open_key(credentials, account.uid, 037); /* systemd may let us in by an ACL, which shows as group bits */
    else
        die("CREDENTIALS_DIRECTORY is not set: the unit needs LoadCredential=seal.key");
    if (!by_systemd)
        bind_sockets(account);
}

static void python_must(PyStatus status) {
    if (PyStatus_Exception(status))
        die("Python does not start: %s", status.err_msg ? status.err_msg : "no reason given");
}

/* Isolated: no environment, no site, no .pyc files, no look-up of paths. Modules come from these three places only. */
static void start_python(const char *role) {
    static const char *const paths[] = {PAM_MFA_STDLIB, PAM_MFA_DYNLOAD, PAM_MFA_LIBEXEC "/site"};
    PyPreConfig before;
    PyConfig config;
    PyPreConfig_InitIsolatedConfig(&before);
    before.utf8_mode = 1;
    python_must(Py_PreInitialize(&before));
    PyConfig_InitIsolatedConfig(&config);
    config.site_import = config.write_bytecode = config.install_signal_handlers = 0;
    config.module_search_paths_set = 1;
    const struct {
        wchar_t **target;
        const char *text;
    } texts[] = {{&config.prefix, PAM_MFA_PREFIX},
                 {&config.base_prefix, PAM_MFA_PREFIX},
                 {&config.exec_prefix, PAM_MFA_PREFIX},
                 {&config.base_exec_prefix, PAM_MFA_PREFIX},
                 {&config.program_name, PAM_MFA_LIBEXEC "/pam-mfad"},
                 {&config.executable, PAM_MFA_LIBEXEC "/pam-mfad"},
                 {&config.base_executable, PAM_MFA_LIBEXEC "/pam-mfad"}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        python_must(PyConfig_SetBytesString(&config, texts[i].target, texts[i].text));
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        wchar_t *path = Py_DecodeLocale(paths[i], NULL);
        python_must(path ? PyWideStringList_Append(&config.module_search_paths, path) : PyStatus_NoMemory());
        PyMem_RawFree(path);
    }
    python_must(PyConfig_SetBytesArgv(&config, 1, (char *const[]){(char *)role}));
    python_must(Py_InitializeFromConfig(&config));
    PyConfig_Clear(&config);
    PyEval_SaveThread(); /* cffi takes the lock itself */
}

static _Noreturn void run_python(enum role role) {
    start_python(ROLE_NAMES[role]);
    int result = pam_mfa_run(ROLE_NAMES[role], sockets);
    if (broker >= 0 && shutdown(DEVICES_FD, SHUT_RDWR) == 0 &&
        poll(&(struct pollfd){.fd = broker, .events = POLLIN}, 1, BROKER_END_MS) > 0)
        waitpid(-1, NULL, WNOHANG);
    _exit(result & RUN_DONE ? result & 0xff : EXIT_FAILURE);
}

static void watch(int fd, unsigned seconds) {
    if ((errno = watchdog_arm(fd, seconds)))
        die("watchdog: %s", strerror(errno));
}

/* The one descriptor that the engine's next message carries; -1 where there is none, which also ends the messages. */
static int receive_connection(void) {
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    char byte;
    struct iovec text = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &text, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    int fd = -1;
    if (recvmsg(SESSION_FD, &message, MSG_CMSG_CLOEXEC) <= 0)
        return -1;
    const struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_type == SCM_RIGHTS && header->cmsg_len == CMSG_LEN(sizeof fd))
        memcpy(&fd, CMSG_DATA(header), sizeof fd);
    return fd;
}

/* Python starts here for a connection only, so a login without a device costs a fork. Ends with the engine. */
static _Noreturn void serve_connections(enum role one, unsigned seconds) {
    for (int connection; (connection = receive_connection()) >= 0; close(connection)) {
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
        if (fork() == 0) {
            must(dup3(connection, SESSION_FD, O_CLOEXEC), "dup3");
            must(close_range(KEY_FD, ~0U, 0), "close_range");
            if (!is_seqpacket(SESSION_FD, 0))
                die("what the engine sent is no connection");
            watch(SESSION_FD, seconds);
            add_socket("connection", SESSION_FD);
            run_python(one);
        }
    }
    while (wait(NULL) > 0)
        ;
    _exit(EXIT_SUCCESS);
}

/* The engine's own device service or path checker: who it becomes has no right to what the engine opens afterwards, and
 * Python in the engine none to become it. Where it cannot be, the other factors go on. Its pid, or 0. */
static pid_t start_own(const struct helper *helper, unsigned seconds) {
    struct account account;
    int ends[2];
    if (!look_for_account(helper->account, &account) || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return 0;
    pid_t child = fork();
    if (child == 0) {
        for (int fd = 0; fd < SESSION_FD; fd++) {
            close(fd);
            must(open("/dev/null", O_RDWR), "/dev/null");
        }
        must(dup3(ends[1], SESSION_FD, O_CLOEXEC), "dup3");
        must(close_range(KEY_FD, ~0U, 0), "close_range");
        sockets[0] = '\0';
        broker = -1;
        find_groups(helper->account, &account);
        drop_to(account);
        serve_connections(helper->one, seconds);
    }
    close(ends[1]);
    const int end = keep_open(ends[0]);
    if (child > 0) {
        must(dup3(end, helper->engine_fd, O_CLOEXEC), "dup3");
        add_socket(helper->engine_name, helper->engine_fd);
    }
    close(end);
    return child > 0 ? child : 0;
}

static void start_helpers(unsigned seconds) {
    const pid_t device = start_own(&HELPER[0], seconds);
    if (device)
        broker = keep_open(must((int)syscall(SYS_pidfd_open, device, 0), "pidfd_open"));
    start_own(&HELPER[1], seconds);
}

static void start_engine(enum role role, struct account account) {
    if (role == PREPARE)
        check_state_directory(account);
    else {
        take_slot();
        offer_pending_directory(account);
        must(fcntl(SESSION_FD, F_SETFD, FD_CLOEXEC), "fd 3");
        add_socket("session", SESSION_FD);
        start_helpers(role == ENGINE ? ENGINE_SECONDS : MANAGE_SECONDS);
    }
    open_key(KEY_DIRECTORY, 0, 077);
}

/* pam-mfad hands its socket over as systemd does, but says nothing of it. */
static void start_beside(const struct helper *helper, int by_systemd, int given) {
    if (by_systemd)
        take_sockets(helper->listeners);
    else if (given)
        add_socket(helper->listeners[0], keep_open(SESSION_FD));
    else {
        check_run_directory();
        add_socket(helper->listeners[0], listen_on(helper->socket, find_account(SERVICE_ACCOUNT).uid, 0600));
    }
}

int main(int argc, char **argv) {
    const enum role role = role_of(argc, argv);
    const struct helper *helper = helper_of(role);
    const char *name = helper ? helper->account : SERVICE_ACCOUNT;
    const int root = getuid() == 0 && geteuid() == 0, session = role == ENGINE || role == MANAGE;
    const int by_systemd = (role == SERVICE || helper) && getenv("LISTEN_FDS");
    if (!root && !by_systemd)
        misuse("must be started by root, or by systemd as its own user");
    forget_caller();
    clean_environment();
    struct account account = find_account(name);
    if (!root && (getuid() != account.uid || geteuid() != account.uid))
        misuse("must be started by root, or by systemd as its own user");
    if (session && !is_seqpacket(SESSION_FD, 0))
        misuse("there is no session on fd 3");
    const int given = helper && is_seqpacket(SESSION_FD, 1);
    const int inherited = by_systemd ? (helper ? 1 : MOST_LISTENERS) : session || given;
    must(close_range((unsigned)(SESSION_FD + inherited), ~0U, 0), "close_range");

    if (role == SERVICE)
        start_service(account, by_systemd);
    else if (helper) {
        start_beside(helper, by_systemd, given);
        find_groups(name, &account);
    } else
        start_engine(role, account);
    drop_to(account);
    for (int i = 0; i < 3; i++)
        unsetenv((const char *[]){"LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"}[i]);
    if (session)
        watch(SESSION_FD, role == ENGINE ? ENGINE_SECONDS : MANAGE_SECONDS);
    else if (helper)
        watch(STDIN_FILENO, FOREVER); /* /dev/null, or a pipe from pam-mfad that breaks when it ends */
    run_python(role);
}
