/* What the executable does while it is root: open, make, lock, drop. No Python, no NSS, no environment. */
#include "root.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pthread.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#define RUN_DIRECTORY "/run/pam-mfa"
#define STATE_DIRECTORY "/var/lib/pam-mfa"
#define PENDING_DIRECTORY RUN_DIRECTORY "/pending"
enum { KEY_SIZE = 32, BACKLOG = 512, OPEN_FILES = 4096, FEWEST_FILES = 16, STACK = 8 << 20 };

void die(const char *format, ...) {
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    dprintf(STDERR_FILENO, "pam-mfa: %s\n", line);
    openlog("pam-mfa", LOG_PID, LOG_AUTHPRIV);
    syslog(LOG_ALERT, "%s", line);
    _exit(EXIT_FAILURE);
}

int must(int result, const char *what) {
    if (result < 0)
        die("%s: %s", what, strerror(errno));
    return result;
}

int keep_open(int low) {
    int fd = must(fcntl(low, F_DUPFD_CLOEXEC, FREE_FD), "F_DUPFD");
    close(low);
    return fd;
}

static int option(int fd, int name) {
    int value = -1;
    socklen_t size = sizeof value;
    return getsockopt(fd, SOL_SOCKET, name, &value, &size) < 0 ? -1 : value;
}

int is_seqpacket(int fd, int listening) {
    return option(fd, SO_DOMAIN) == AF_UNIX && option(fd, SO_TYPE) == SOCK_SEQPACKET &&
           option(fd, SO_ACCEPTCONN) == listening;
}

/* A limit of the caller's that is lower than what we need; where we may not lift it, what it leaves us has to do. */
static void lift_limits(void) {
    static const struct {
        int resource;
        rlim_t least;
    } limits[] = {{RLIMIT_CPU, RLIM_INFINITY},  {RLIMIT_FSIZE, RLIM_INFINITY}, {RLIMIT_AS, RLIM_INFINITY},
                  {RLIMIT_DATA, RLIM_INFINITY}, {RLIMIT_NPROC, RLIM_INFINITY}, {RLIMIT_STACK, STACK},
                  {RLIMIT_NOFILE, OPEN_FILES}};
    struct rlimit limit;
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        must(getrlimit(limits[i].resource, &limit), "getrlimit");
        if (limit.rlim_cur >= limits[i].least)
            continue;
        const rlim_t hard = limit.rlim_max;
        limit.rlim_cur = limits[i].least;
        limit.rlim_max = hard > limit.rlim_cur ? hard : limit.rlim_cur;
        if (setrlimit(limits[i].resource, &limit) < 0) {
            limit.rlim_cur = limit.rlim_max = hard;
            must(setrlimit(limits[i].resource, &limit), "setrlimit");
        }
    }
    if (limit.rlim_cur < FEWEST_FILES) /* NOFILE, the last one */
        die("RLIMIT_NOFILE: %d open files are needed", FEWEST_FILES);
}

/* As a plain process runs, whatever a host does to itself. Not needed to run: refusals count for nothing. */
static void run_as_usual(void) {
    enum { IOPRIO_WHO_PROCESS = 1, IOPRIO_DEFAULT = 0 };
    sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){0});
    setpriority(PRIO_PROCESS, 0, 0);
    syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_DEFAULT);
}

/* glibc took the size of threads' stacks from the caller's limit before main(). */
static void size_thread_stacks(void) {
    pthread_attr_t attributes;
    if ((errno = pthread_attr_init(&attributes)) || (errno = pthread_attr_setstacksize(&attributes, STACK)) ||
        (errno = pthread_setattr_default_np(&attributes)))
        die("stacks of threads: %s", strerror(errno));
    pthread_attr_destroy(&attributes);
}

void forget_caller(void) {
    const struct rlimit no_core = {0, 0};
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
    must(setrlimit(RLIMIT_CORE, &no_core), "RLIMIT_CORE");
    lift_limits();
    size_thread_stacks();
    if (geteuid() == 0) /* otherwise systemd started us, and its unit says how we run */
        run_as_usual();
}

/* From the files and not through NSS: a system account is local, and a directory server must not be able to hang us. */
static FILE *open_accounts(const char *path) {
    FILE *file = fopen(path, "re");
    if (!file)
        die("%s: %s", path, strerror(errno));
    return file;
}

int look_for_account(const char *name, struct account *account) {
    struct passwd *entry;
    FILE *file = open_accounts("/etc/passwd");
    while ((entry = fgetpwent(file)) && strcmp(entry->pw_name, name))
        ;
    const int found = entry && entry->pw_uid && entry->pw_gid;
    if (found)
        *account = (struct account){.uid = entry->pw_uid, .gid = entry->pw_gid};
    fclose(file);
    return found;
}

struct account find_account(const char *name) {
    struct account account;
    if (!look_for_account(name, &account))
        die("/etc/passwd has no account %s: run the installer", name);
    return account;
}

void find_groups(const char *name, struct account *account) {
    struct group *entry;
    FILE *file = open_accounts("/etc/group");
    while (account->group_count < MAX_GROUPS && (entry = fgetgrent(file)))
        for (char **member = entry->gr_mem; *member; member++)
            if (!strcmp(*member, name)) {
                account->groups[account->group_count++] = entry->gr_gid;
                break;
            }
    fclose(file);
}

/* A directory that only root or `owner` can change, and without any of the `forbidden` mode bits. */
static int open_directory(const char *path, uid_t owner, mode_t forbidden) {
    struct stat status;
    int fd = must(open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), path);
    must(fstat(fd, &status), path);
    if ((status.st_uid != 0 && status.st_uid != owner) || status.st_mode & forbidden)
        die("%s: its owner or mode lets others in", path);
    return fd;
}

/* Makes it where it is absent: with no other mode at any moment. */
static int make_directory(const char *path, mode_t mode, uid_t owner) {
    mode_t before = umask(0);
    int made = mkdir(path, mode);
    umask(before);
    if (made < 0 && errno != EEXIST)
        must(made, path);
    return open_directory(path, owner, ~mode & 077);
}

void check_run_directory(void) { close(make_directory(RUN_DIRECTORY, 0755, 0)); }

void check_state_directory(struct account account) {
    int fd = make_directory(STATE_DIRECTORY, 0700, account.uid);
    must(fchownat(fd, "", account.uid, account.gid, AT_EMPTY_PATH), STATE_DIRECTORY);
    close(fd);
}

void offer_pending_directory(struct account account) {
    if (mkdir(PENDING_DIRECTORY, 0700) == 0 && lchown(PENDING_DIRECTORY, account.uid, account.gid) == 0)
        chmod(PENDING_DIRECTORY, 0755);
}

void open_key(const char *directory, uid_t owner, mode_t forbidden) {
    struct stat status;
    int folder = open_directory(directory, owner, 022);
    int key = openat(folder, "seal.key", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (key < 0 || fstat(key, &status) < 0)
        die("%s/seal.key: %s", directory, strerror(errno));
    if (!S_ISREG(status.st_mode) || (status.st_uid != 0 && status.st_uid != owner) || status.st_mode & forbidden ||
        status.st_size != KEY_SIZE)
        die("%s/seal.key: must be a file of 32 bytes that only its owner can read", directory);
    close(folder);
    key = keep_open(key);
    must(dup3(key, KEY_FD, O_CLOEXEC), "seal.key");
    close(key);
}

int lock_file(const char *name) {
    char path[64];
    snprintf(path, sizeof path, RUN_DIRECTORY "/%s", name);
    int fd = keep_open(must(open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600), path));
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    close(fd);
    return -1;
}

int listen_on(const char *name, uid_t owner, mode_t mode) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char path[sizeof address.sun_path];
    snprintf(path, sizeof path, RUN_DIRECTORY "/%s", name);
    snprintf(address.sun_path, sizeof address.sun_path, RUN_DIRECTORY "/%s.new", name);
    int fd = keep_open(must(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), name));
    if (unlink(address.sun_path) < 0 && errno != ENOENT)
        die("%s: %s", address.sun_path, strerror(errno));
    must(bind(fd, (struct sockaddr *)&address, sizeof address), address.sun_path);
    must(lchown(address.sun_path, owner, -1), address.sun_path);
    must(chmod(address.sun_path, mode), address.sun_path);
    must(listen(fd, BACKLOG), address.sun_path);
    must(rename(address.sun_path, path), path);
    return fd;
}

/* A pipe ties the helper's life to ours: PDEATHSIG from a process that is no longer root cannot reach root's child. */
void start_helper(const char *name, int listener) {
    char *const arguments[] = {(char *)name, NULL}, *const environment[] = {NULL};
    char path[64];
    int lifeline[2];
    snprintf(path, sizeof path, PAM_MFA_LIBEXEC "/%s", name);
    must(pipe2(lifeline, O_CLOEXEC), "pipe");
    pid_t child = must(fork(), "fork");
    if (child == 0) {
        must(dup2(lifeline[0], STDIN_FILENO), "dup2");
        must(dup2(listener, SESSION_FD), "dup2");
        must(close_range(KEY_FD, ~0U, 0), "close_range");
        execve(path, arguments, environment);
        die("%s: %s", path, strerror(errno));
    }
    keep_open(lifeline[1]);
    close(lifeline[0]);
    close(listener);
}

void drop_to(struct account account) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};
    uid_t uid[3];
    gid_t gid[3];
    if (geteuid() == 0) {
        must(setgroups(account.group_count, account.groups), "setgroups");
        must(setresgid(account.gid, account.gid, account.gid), "setresgid");
        must(setresuid(account.uid, account.uid, account.uid), "setresuid");
        if (getgroups(0, NULL) != (int)account.group_count)
            die("still in supplementary groups");
    }
    must((int)syscall(SYS_capset, &header, none), "capset");
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
    must(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "dumpable");
    must(getresuid(&uid[0], &uid[1], &uid[2]), "getresuid");
    must(getresgid(&gid[0], &gid[1], &gid[2]), "getresgid");
    for (int i = 0; i < 3; i++)
        if (uid[i] != account.uid || gid[i] != account.gid)
            die("could not become uid %u", account.uid);
    if (setuid(0) == 0 || setgid(0) == 0)
        die("could become root again");
}
