/* One executable, two programs: pam-mfad (the service) and pam-mfa-engine (one session on fd 3, or --manage,
 * --prepare). While it is root it runs this file and root.c only; Python starts after the drop. See README.md. */
#include <Python.h>

#include "root.h"
#include "watchdog.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define KEY_DIRECTORY "/etc/pam-mfa"
enum { EXIT_MISUSE = 2, SLOTS = 8, SLOT_TRIES = 50, LISTENERS = 3, OPEN_FILES = 4096 };
enum { ENGINE_SECONDS = 190, MANAGE_SECONDS = 900 }; /* above every deadline that Python keeps by itself */
enum role { SERVICE, ENGINE, MANAGE, PREPARE };
static const char *const ROLE_NAMES[] = {"service", "engine", "manage", "prepare"};

int pam_mfa_run(const char *role, const char *sockets); /* engine_build.py; 0 = Python failed, else RUN_DONE | status */
enum { RUN_DONE = 0x100 };

struct caller {
    int root;
    const char *listen_fds, *listen_pid, *listen_names, *credentials;
};

struct sockets {
    char text[96]; /* "priv=10,user=11,manage=12" */
};

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

static int option(int fd, int name) {
    int value = -1;
    socklen_t size = sizeof value;
    return getsockopt(fd, SOL_SOCKET, name, &value, &size) < 0 ? -1 : value;
}

static int is_seqpacket(int fd, int listening) {
    return option(fd, SO_DOMAIN) == AF_UNIX && option(fd, SO_TYPE) == SOCK_SEQPACKET &&
           option(fd, SO_ACCEPTCONN) == listening;
}

/* Nothing of the caller's surroundings is kept. SIGPIPE and SIGXFSZ become errors of the call, as Python expects. */
static void forget_caller(void) {
    struct rlimit limit = {0, 0};
    sigset_t none;
    for (int number = 1; number < NSIG; number++)
        signal(number, number == SIGPIPE || number == SIGXFSZ ? SIG_IGN : SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            must(open("/dev/null", O_RDWR), "/dev/null"); /* takes the lowest free number, which is this one */
    umask(077);
    must(chdir("/"), "/");
    must(setrlimit(RLIMIT_CORE, &limit), "RLIMIT_CORE");
    must(getrlimit(RLIMIT_NOFILE, &limit), "RLIMIT_NOFILE");
    if (limit.rlim_cur < OPEN_FILES) {
        limit.rlim_cur = limit.rlim_max < OPEN_FILES ? limit.rlim_max : OPEN_FILES;
        must(setrlimit(RLIMIT_NOFILE, &limit), "RLIMIT_NOFILE");
    }
}

static void clean_environment(void) {
    static const char *const names[] = {
        "NOTIFY_SOCKET=", "WATCHDOG_USEC=", "WATCHDOG_PID=", "CREDENTIALS_DIRECTORY=", "JOURNAL_STREAM="};
    enum { NAMES = sizeof names / sizeof *names };
    static char *kept[NAMES + 1];
    size_t count = 0;
    for (size_t i = 0; i < NAMES; i++) {
        char **entry = environ;
        while (*entry && strncmp(*entry, names[i], strlen(names[i])))
            entry++;
        if (*entry)
            kept[count++] = *entry;
    }
    environ = kept;
}

static void add_socket(struct sockets *sockets, const char *name, int fd) {
    size_t used = strlen(sockets->text);
    snprintf(sockets->text + used, sizeof sockets->text - used, "%s%s=%d", used ? "," : "", name, fd);
}

/* systemd's sockets: priv, user and manage, each once, in any order. */
static struct sockets take_sockets(const struct caller *caller) {
    static const char *const wanted[LISTENERS] = {"priv", "user", "manage"};
    struct sockets sockets = {""};
    char names[64], *rest = names;
    unsigned seen = 0;
    if (!caller->listen_pid || atol(caller->listen_pid) != getpid() || strcmp(caller->listen_fds, "3"))
        die("LISTEN_PID or LISTEN_FDS: three sockets for this process are needed");
    snprintf(names, sizeof names, "%s", caller->listen_names ? caller->listen_names : "");
    for (int fd = SESSION_FD; fd < SESSION_FD + LISTENERS; fd++) {
        const char *name = strsep(&rest, ":");
        for (unsigned i = 0; name && i < LISTENERS; i++)
            seen |= !strcmp(name, wanted[i]) ? 1U << i : 0;
        if (!is_seqpacket(fd, 1))
            die("LISTEN_FDS: not a listening SOCK_SEQPACKET socket of AF_UNIX");
        int moved = keep_open(fd);
        must(fcntl(moved, F_SETFL, O_NONBLOCK), "LISTEN_FDS");
        add_socket(&sockets, name ? name : "", moved);
    }
    if (rest || seen != (1U << LISTENERS) - 1)
        die("LISTEN_FDNAMES must be priv, user and manage");
    return sockets;
}

static struct sockets bind_sockets(struct account account) {
    struct sockets sockets = {""};
    check_run_directory();
    if (lock_file("pam-mfad.lock") < 0)
        die("another pam-mfad is running");
    add_socket(&sockets, "priv", listen_on("priv.sock", 0, 0600));
    add_socket(&sockets, "user", listen_on("user.sock", 0, 0666));
    add_socket(&sockets, "manage", listen_on("manage.sock", 0, 0666));
    start_password_helper(listen_on("password.sock", account.uid, 0600));
    return sockets;
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

static struct sockets start_service(struct account account, const struct caller *caller) {
    struct sockets sockets = {""};
    if (caller->listen_fds)
        sockets = take_sockets(caller); /* first: they come as 3, 4 and 5, and the key shall be 4 */
    if (caller->root)
        open_key(KEY_DIRECTORY, 0, 077);
    else if (caller->credentials)
        open_key(caller->credentials, account.uid,
                 037); /* systemd may let us in by an ACL, which shows as group bits */
    else
        die("CREDENTIALS_DIRECTORY is not set: the unit needs LoadCredential=seal.key");
    return caller->listen_fds ? sockets : bind_sockets(account);
}

static struct sockets start_session(void) {
    take_slot();
    open_key(KEY_DIRECTORY, 0, 077);
    must(fcntl(SESSION_FD, F_SETFD, FD_CLOEXEC), "fd 3");
    return (struct sockets){"session=3"};
}

static struct sockets start_prepare(struct account account) {
    open_key(KEY_DIRECTORY, 0, 077);
    check_state_directory(account);
    return (struct sockets){""};
}

static void python_must(PyStatus status) {
    if (PyStatus_Exception(status))
        die("Python does not start: %s", status.err_msg ? status.err_msg : "no reason given");
}

/* Isolated: no environment, no site, no .pyc writing, no look-up of paths. What is imported is what these three hold.
 */
static void start_python(const char *role) {
    static const char *const paths[] = {PAM_MFA_STDLIB, PAM_MFA_DYNLOAD, PAM_MFA_LIBEXEC "/site"};
    PyPreConfig before;
    PyConfig config;
    PyPreConfig_InitIsolatedConfig(&before);
    before.utf8_mode = 1;
    python_must(Py_PreInitialize(&before));
    PyConfig_InitIsolatedConfig(&config);
    config.site_import = 0;
    config.write_bytecode = 0;
    config.install_signal_handlers = 0;
    wchar_t **prefixes[] = {&config.prefix, &config.base_prefix, &config.exec_prefix, &config.base_exec_prefix};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        python_must(PyConfig_SetBytesString(&config, prefixes[i], PAM_MFA_PREFIX));
    wchar_t **programs[] = {&config.program_name, &config.executable, &config.base_executable};
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++)
        python_must(PyConfig_SetBytesString(&config, programs[i], PAM_MFA_LIBEXEC "/pam-mfad"));
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        wchar_t *path = Py_DecodeLocale(paths[i], NULL);
        python_must(path ? PyWideStringList_Append(&config.module_search_paths, path) : PyStatus_NoMemory());
        PyMem_RawFree(path);
    }
    config.module_search_paths_set = 1;
    python_must(PyConfig_SetBytesArgv(&config, 1, (char *const[]){(char *)role}));
    python_must(Py_InitializeFromConfig(&config));
    PyConfig_Clear(&config);
    PyEval_SaveThread(); /* cffi takes the lock itself */
}

int main(int argc, char **argv) {
    const enum role role = role_of(argc, argv);
    const int session = role == ENGINE || role == MANAGE;
    const struct caller caller = {getuid() == 0 && geteuid() == 0, getenv("LISTEN_FDS"), getenv("LISTEN_PID"),
                                  getenv("LISTEN_FDNAMES"), getenv("CREDENTIALS_DIRECTORY")};
    if (!caller.root && (role != SERVICE || !caller.listen_fds))
        misuse("must be started by root, or as pam-mfa by systemd");
    forget_caller();
    clean_environment();
    const struct account account = find_account();
    if (!caller.root && (getuid() != account.uid || geteuid() != account.uid))
        misuse("must be started by root, or as pam-mfa by systemd");
    if (session && !is_seqpacket(SESSION_FD, 0))
        misuse("there is no session on fd 3");
    const int inherited = session ? 1 : role == SERVICE && caller.listen_fds ? LISTENERS : 0;
    must(close_range((unsigned)(SESSION_FD + inherited), ~0U, 0), "close_range");

    const struct sockets sockets = role == SERVICE   ? start_service(account, &caller)
                                   : role == PREPARE ? start_prepare(account)
                                                     : start_session();
    drop_to(account);
    if (session && (errno = watchdog_arm(SESSION_FD, role == ENGINE ? ENGINE_SECONDS : MANAGE_SECONDS)))
        die("watchdog: %s", strerror(errno));
    start_python(ROLE_NAMES[role]);
    int result = pam_mfa_run(ROLE_NAMES[role], sockets.text);
    _exit(result & RUN_DONE ? result & 0xff : EXIT_FAILURE);
}
