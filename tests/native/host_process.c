#include "host.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <locale.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

enum { STATE = 65536 };

static volatile sig_atomic_t children_died, last_handled;
static char remembered[STATE];

void say(const char *format, ...) {
    char line[8192];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (size < 0 || write(OUT, line, (size_t)size) != size)
        _exit(99);
}

static void say_log(int priority, const char *format, va_list arguments) {
    char line[4096];
    int saved = errno;
    vsnprintf(line, sizeof line, format, arguments);
    say("log %d %s\n", priority & LOG_PRIMASK, line);
    errno = saved;
}

/* libpam's way to syslog ends here: this machine's log is left alone, and the test reads along. */
void syslog(int priority, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    say_log(priority, format, arguments);
    va_end(arguments);
}

void __syslog_chk(int priority, int flag, const char *format, ...);
void __syslog_chk(int priority, int flag, const char *format, ...) {
    va_list arguments;
    (void)flag;
    va_start(arguments, format);
    say_log(priority, format, arguments);
    va_end(arguments);
}

int signal_number(const char *name) {
    static const struct {
        const char *name;
        int number;
    } known[] = {{"INT", SIGINT},   {"QUIT", SIGQUIT}, {"TERM", SIGTERM}, {"HUP", SIGHUP},
                 {"CHLD", SIGCHLD}, {"PIPE", SIGPIPE}, {"ALRM", SIGALRM}, {"USR1", SIGUSR1}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strncmp(name, known[i].name, strlen(known[i].name)) == 0)
            return known[i].number;
    _exit(98);
}

static void list_fds(char *text, size_t size) {
    char path[64], target[256];
    DIR *directory = opendir("/proc/self/fd");
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        int fd = atoi(entry->d_name);
        if (entry->d_name[0] == '.' || fd == dirfd(directory))
            continue;
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(path, target, sizeof target - 1);
        target[length > 0 ? length : 0] = '\0';
        size_t used = strlen(text);
        snprintf(text + used, size - used, "fd %d %s\n", fd, target);
    }
    closedir(directory);
}

/* All that a module must leave as it was, as text. */
static void describe(char *text, size_t size) {
    char cwd[1024] = "";
    sigset_t mask;
    mode_t bits = umask(0);
    umask(bits);
    text[0] = '\0';
    list_fds(text, size);
    size_t used = strlen(text);
    used +=
        (size_t)snprintf(text + used, size - used, "umask %o\ncwd %s\nlocale %s\nids %d %d %d %d\n", bits,
                         getcwd(cwd, sizeof cwd), setlocale(LC_ALL, NULL), getuid(), geteuid(), getgid(), getegid());
    sigprocmask(SIG_SETMASK, NULL, &mask);
    for (int number = 1; number < NSIG; number++) {
        struct sigaction action = {0};
        sigaction(number, NULL, &action);
        used += (size_t)snprintf(text + used, size - used, "signal %d %d %p\n", number, sigismember(&mask, number),
                                 *(void **)&action.sa_handler);
    }
    for (int resource = 0; resource < RLIM_NLIMITS; resource++) {
        struct rlimit limit;
        getrlimit((__rlimit_resource_t)resource, &limit);
        used +=
            (size_t)snprintf(text + used, size - used, "limit %d %lu %lu\n", resource, limit.rlim_cur, limit.rlim_max);
    }
    for (char **entry = environ; *entry && used < size; entry++)
        used += (size_t)snprintf(text + used, size - used, "env %s\n", *entry);
}

static void same(void) {
    static char now[STATE];
    describe(now, sizeof now);
    if (strcmp(now, remembered) == 0) {
        say("state same\n");
        return;
    }
    for (char *rest = now, *line; (line = strsep(&rest, "\n"));)
        if (!strstr(remembered, line))
            say("state now %s\n", line);
    say("state changed\n");
}

static void limit(const char *argument) {
    static const struct {
        const char *name;
        int resource;
    } known[] = {{"NOFILE", RLIMIT_NOFILE}, {"AS", RLIMIT_AS},       {"FSIZE", RLIMIT_FSIZE}, {"CPU", RLIMIT_CPU},
                 {"STACK", RLIMIT_STACK},   {"NPROC", RLIMIT_NPROC}, {"CORE", RLIMIT_CORE}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strncmp(argument, known[i].name, strlen(known[i].name)) == 0) {
            rlim_t value = strtoul(strchr(argument, ':') + 1, NULL, 10);
            struct rlimit both = {value, value};
            if (setrlimit((__rlimit_resource_t)known[i].resource, &both) != 0)
                _exit(94);
        }
}

static void note_signal(int number) {
    last_handled = number;
    children_died += number == SIGCHLD;
}

static void signals(const char *word, const char *argument) {
    int number = signal_number(argument);
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, number);
    if (strcmp(word, "ignore") == 0)
        signal(number, SIG_IGN);
    else if (strcmp(word, "handle") == 0)
        sigaction(number, &(struct sigaction){.sa_handler = note_signal}, NULL);
    else if (strcmp(word, "block") == 0)
        sigprocmask(SIG_BLOCK, &one, NULL);
    else
        kill(getpid(), number);
}

static void children(void) {
    int status;
    pid_t pid = waitpid(-1, &status, WNOHANG);
    say("wait %s\n", pid < 0 && errno == ECHILD ? "none" : "some");
    pid = waitpid(-1, &status, WNOHANG | __WALL);
    say("wait_all %s sigchld %d\n", pid < 0 && errno == ECHILD ? "none" : "some", (int)children_died);
}

static void inherited(void) {
    fcntl(OUT, F_SETFD, 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(OUT, 1);
        execl("/bin/ls", "ls", "-1", "/proc/self/fd", NULL);
        _exit(93);
    }
    waitpid(pid, NULL, 0);
    fcntl(OUT, F_SETFD, FD_CLOEXEC);
}

static void change_ids(const char *word, const char *argument) {
    uid_t uid = (uid_t)atoi(argument);
    if (strcmp(word, "groups") == 0) {
        gid_t groups[2] = {uid, (gid_t)atoi(strchr(argument, ',') + 1)};
        if (setgroups(2, groups) != 0)
            _exit(91);
    } else if (strcmp(word, "ruid") == 0 ? setresuid(uid, (uid_t)-1, (uid_t)-1) : seteuid(uid))
        _exit(91);
}

static void storm(const char *argument) {
    struct timeval every = {.tv_usec = atoi(argument) * 1000};
    signals("handle", "ALRM");
    setitimer(ITIMER_REAL, &(struct itimerval){every, every}, NULL);
}

static bool surroundings_step(const char *word, const char *argument) {
    if (strcmp(word, "limit") == 0)
        limit(argument);
    else if (strcmp(word, "close") == 0)
        close(atoi(argument));
    else if (strcmp(word, "umask") == 0)
        umask((mode_t)strtol(argument, NULL, 8));
    else if (strcmp(word, "locale") == 0)
        setlocale(LC_ALL, argument);
    else if (strcmp(word, "env") == 0)
        putenv(strdup(argument));
    else if (strcmp(word, "cwd") == 0) {
        if (chdir(argument) != 0)
            _exit(91);
    } else if (strcmp(word, "euid") == 0 || strcmp(word, "ruid") == 0 || strcmp(word, "groups") == 0)
        change_ids(word, argument);
    else
        return false;
    return true;
}

bool process_step(const char *word, const char *argument) {
    if (strcmp(word, "state") == 0)
        describe(remembered, sizeof remembered);
    else if (strcmp(word, "same") == 0)
        same();
    else if (strcmp(word, "children") == 0)
        children();
    else if (strcmp(word, "exec") == 0)
        inherited();
    else if (strcmp(word, "storm") == 0)
        storm(argument);
    else if (strcmp(word, "handled") == 0)
        say("handled %d\n", (int)last_handled);
    else if (strcmp(word, "ignore") == 0 || strcmp(word, "block") == 0 || strcmp(word, "handle") == 0 ||
             strcmp(word, "raise") == 0)
        signals(word, argument);
    else
        return surroundings_step(word, argument);
    return true;
}
