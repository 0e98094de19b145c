/* One executable, two programs: pam-mfad (the service) and pam-mfa-engine (one session on fd 3, or --manage,
 * --prepare). While it is root it runs this file and root.c only; Python starts after the drop. See README.md. */
#include <Python.h>

#include "root.h"
#include "watchdog.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define KEY_DIRECTORY "/etc/pam-mfa"
enum { EXIT_MISUSE = 2, SLOTS = 8, SLOT_TRIES = 50, LISTENERS = 3 };
enum { ENGINE_SECONDS = 190, MANAGE_SECONDS = 900 }; /* above every deadline that Python keeps by itself */
enum role { SERVICE, ENGINE, MANAGE, PREPARE };
static const char *const ROLE_NAMES[] = {"service", "engine", "manage", "prepare"};

int pam_mfa_run(const char *role, const char *sockets); /* engine_build.py; 0 = Python failed, else RUN_DONE | status */
enum { RUN_DONE = 0x100 };

static char sockets[96]; /* what Python is told of: "priv=10,user=11,manage=12" */

static _Noreturn void misuse(const char *message) {
    dprintf(STDERR_FILENO, "pam-mfa: %s\n", message);
    _exit(EXIT_MISUSE);
}

static enum role role_of(int argc, char **argv) {
    const char *name = argc ? argv[0] : "", *slash = strrchr(name, '/');
    name = slash ? slash + 1 : name;
    if (!strcmp(name, "pam-mfad") && argc == 1)
        return SERVICE;
    if (!strcmp(name, "pam-mfa-engine") && argc == 1)
        return ENGINE;
    if (!strcmp(name, "pam-mfa-engine") && argc == 2 && !strcmp(argv[1], "--manage"))
        return MANAGE;
    if (!strcmp(name, "pam-mfa-engine") && argc == 2 && !strcmp(argv[1], "--prepare"))
        return PREPARE;
    misuse("not started as pam-mfad or pam-mfa-engine [--manage | --prepare]");
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

/* systemd's sockets: priv, user and manage, each once, in any order. */
static void take_sockets(void) {
    static const char *const wanted[LISTENERS] = {"priv", "user", "manage"};
    const char *pid = getenv("LISTEN_PID"), *given = getenv("LISTEN_FDNAMES");
    char names[64], *rest = names;
    unsigned seen = 0;
    if (!pid || atol(pid) != getpid() || strcmp(getenv("LISTEN_FDS"), "3"))
        die("LISTEN_PID or LISTEN_FDS: three sockets for this process are needed");
    snprintf(names, sizeof names, "%s", given ? given : "");
    for (int fd = SESSION_FD; fd < SESSION_FD + LISTENERS; fd++) {
        const char *name = strsep(&rest, ":");
        for (unsigned i = 0; name && i < LISTENERS; i++)
            seen |= !strcmp(name, wanted[i]) ? 1U << i : 0;
        if (!is_seqpacket(fd, 1))
            die("LISTEN_FDS: not a listening SOCK_SEQPACKET socket of AF_UNIX");
        int moved = keep_open(fd);
        must(fcntl(moved, F_SETFL, O_NONBLOCK), "LISTEN_FDS");
        add_socket(name ? name : "", moved);
    }
    if (rest || seen != (1U << LISTENERS) - 1)
        die("LISTEN_FDNAMES must be priv, user and manage");
}

static void bind_sockets(struct account account) {
    check_run_directory();
    if (lock_file("pam-mfad.lock") < 0)
        die("another pam-mfad is running");
    add_socket("priv", listen_on("priv.sock", 0, 0600));
    add_socket("user", listen_on("user.sock", 0, 0666));
    add_socket("manage", listen_on("manage.sock", 0, 0666));
    start_password_helper(listen_on("password.sock", account.uid, 0600));
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
        take_sockets();
    if (geteuid() == 0)
        open_key(KEY_DIRECTORY, 0, 077);
    else if (credentials)
        open_key(credentials, account.uid, 037); /* systemd may let us in by an ACL, which shows as group bits */
    else
        die("CREDENTIALS_DIRECTORY is not set: the unit needs LoadCredential=seal.key");
    if (!by_systemd)
        bind_sockets(account);
}

static void start_engine(enum role role, struct account account) {
    if (role == PREPARE)
        check_state_directory(account);
    else {
        take_slot();
        must(fcntl(SESSION_FD, F_SETFD, FD_CLOEXEC), "fd 3");
        add_socket("session", SESSION_FD);
    }
    open_key(KEY_DIRECTORY, 0, 077);
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

int main(int argc, char **argv) {
    const enum role role = role_of(argc, argv);
    const int root = getuid() == 0 && geteuid() == 0, by_systemd = role == SERVICE && getenv("LISTEN_FDS");
    const int session = role == ENGINE || role == MANAGE;
    if (!root && !by_systemd)
        misuse("must be started by root, or as pam-mfa by systemd");
    forget_caller();
    clean_environment();
    const struct account account = find_account();
    if (!root && (getuid() != account.uid || geteuid() != account.uid))
        misuse("must be started by root, or as pam-mfa by systemd");
    if (session && !is_seqpacket(SESSION_FD, 0))
        misuse("there is no session on fd 3");
    const int inherited = session ? 1 : by_systemd ? LISTENERS : 0;
    must(close_range((unsigned)(SESSION_FD + inherited), ~0U, 0), "close_range");

    if (role == SERVICE)
        start_service(account, by_systemd);
    else
        start_engine(role, account);
    drop_to(account);
    for (int i = 0; i < 3; i++)
        unsetenv((const char *[]){"LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"}[i]);
    if (session && (errno = watchdog_arm(SESSION_FD, role == ENGINE ? ENGINE_SECONDS : MANAGE_SECONDS)))
        die("watchdog: %s", strerror(errno));
    start_python(ROLE_NAMES[role]);
    int result = pam_mfa_run(ROLE_NAMES[role], sockets);
    _exit(result & RUN_DONE ? result & 0xff : EXIT_FAILURE);
}
