#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SESSION_FD = 3, END_MS = 1000, MOST_FDS = 1 << 20 };

/* A fork without an exit signal: the host gets no SIGCHLD and its wait() does not see the child. Raw, as are the set*id
   calls below: glibc's versions wait for the host's other threads, and those do not exist in the child. */
static pid_t fork_unseen(void) { return (pid_t)syscall(SYS_clone, 0, NULL, NULL, NULL, NULL); }

static bool become_root(void) {
    return syscall(SYS_setgroups, 0, NULL) == 0 && syscall(SYS_setresgid, 0, 0, 0) == 0 &&
           syscall(SYS_setresuid, 0, 0, 0) == 0;
}

/* Dies with its parent; after become_root, as a change of ids takes the wish back. */
static bool die_with(pid_t parent) { return prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent; }

/* The session on 3, /dev/null on 0-2, nothing else. No free number is needed: there may be none. */
static bool own_fds_only(int session) {
    struct rlimit most = {0, 0};
    if (session == SESSION_FD ? fcntl(session, F_SETFD, 0) != 0 : dup2(session, SESSION_FD) != SESSION_FD)
        return false;
    if (syscall(SYS_close_range, SESSION_FD + 1, ~0U, 0) != 0) {
        getrlimit(RLIMIT_NOFILE, &most);
        for (int fd = SESSION_FD + 1; fd < MOST_FDS && (rlim_t)fd < most.rlim_max; fd++)
            close(fd);
    }
    for (int fd = 0; fd < SESSION_FD; fd++)
        close(fd);
    for (int fd = 0; fd < SESSION_FD; fd++)
        if (open("/dev/null", O_RDWR) != fd)
            return false;
    return true;
}

static _Noreturn void run_engine(const char *path, pid_t supervisor) {
    static char *const argv[] = {"pam-mfa-engine", NULL};
    static char *const envp[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", NULL};
    struct sigaction usual = {.sa_handler = SIG_DFL};
    sigset_t none;
    if (die_with(supervisor)) {
        for (int number = 1; number < NSIG; number++)
            sigaction(number, &usual, NULL); /* exec keeps what the host ignores */
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        execve(path, argv, envp);
    }
    _exit(127);
}

/* Stays between host and engine, as exec would bring the exit signal back. Runs with all signals blocked: the
   handlers in its memory are the host's. */
static _Noreturn void supervise(const char *path, pid_t host, int session) {
    struct rlimit no_core = {0, 0};
    if (!become_root() || !die_with(host) || setsid() < 0 || chdir("/") != 0 || setrlimit(RLIMIT_CORE, &no_core) != 0 ||
        !own_fds_only(session))
        _exit(127);
    umask(077);
    pid_t self = getpid(), engine = fork_unseen();
    if (engine == 0)
        run_engine(path, self);
    close(SESSION_FD); /* the host must see the engine's end, not ours */
    while (engine > 0 && waitpid(engine, NULL, __WALL) < 0 && errno == EINTR)
        ;
    _exit(0);
}

bool only_root_writes(const struct stat *file, mode_t type) {
    return (file->st_mode & S_IFMT) == type && file->st_uid == 0 && !(file->st_mode & (S_IWGRP | S_IWOTH));
}

int engine_start(struct engine *engine, const char *path) {
    const struct timeval send_limit = {.tv_sec = 1};
    struct stat file;
    sigset_t all, before;
    pid_t host = getpid();
    int ends[2];
    if (lstat(path, &file) != 0)
        return -1;
    errno = EPERM;
    if (!only_root_writes(&file, S_IFREG) || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return -1;
    setsockopt(ends[0], SOL_SOCKET, SO_SNDTIMEO, &send_limit, sizeof send_limit);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    engine->supervisor = fork_unseen();
    if (engine->supervisor == 0)
        supervise(path, host, ends[1]);
    int error = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(ends[1]);
    if (engine->supervisor > 0) {
        engine->pidfd = (int)syscall(SYS_pidfd_open, engine->supervisor, 0);
        return ends[0];
    }
    close(ends[0]);
    errno = error;
    return -1;
}

void engine_end(const struct engine *engine) {
    struct pollfd end = {.fd = engine->pidfd, .events = POLLIN};
    if (engine->pidfd < 0 || poll(&end, 1, END_MS) != 1) {
        kill(-engine->supervisor, SIGKILL); /* its process group: the engine too, and what that started */
        kill(engine->supervisor, SIGKILL);
    }
    while (waitpid(engine->supervisor, NULL, __WALL) < 0 && errno == EINTR)
        ;
    if (engine->pidfd >= 0)
        close(engine->pidfd);
}
