/* A host program for the shim, scripted by its arguments: host CONFDIR SERVICE USER STEP...
 *
 * Each STEP is word[=argument]; steps run in order and report as lines on stdout (a copy of it, so it may be closed).
 *   item=NAME:VALUE penv=K=V env=K=V   PAM item, PAM environment, process environment
 *   answer=KIND[:ARGUMENT]             queued for the next prompt: text, hex, big, null, noresp, error, late (ms:text),
 *                                      raise (signal:text), item (NAME:VALUE), exit
 *   info=KIND                          answers texts: null (default), error, text
 *   noconv                             a conversation without function
 *   limit=NAME:N close=N umask=OCTAL cwd=PATH euid=N ruid=N groups=N,N locale=NAME ignore=SIG block=SIG handle=SIG
 * raise=SIG storm=MS                           SIGALRM every so many ms, with a handler that does nothing nss=MODE
 * getpwnam_r: real, error, huge (wants 100 kB), endless (always ERANGE) state same                         remembers
 * the process's state; prints what has changed auth[=FLAGS] setcred acct open close_session chauthtok     through
 * libpam direct=MODULE,ARGUMENT...          pam_sm_authenticate itself, with errno set before and shown after threads=N
 * repeat=N                 N transactions at once; N one after the other children exec                      what wait()
 * sees; the descriptors that a program started now inherits
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <locale.h>
#include <pthread.h>
#include <pwd.h>
#include <security/pam_appl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

enum { OUT = 200, MOST = 64, STATE = 65536 };

static const char *confdir, *service, *user, *nss = "real", *info = "null";
static const char *answers[MOST];
static size_t answer_count;
static bool no_conv;
static volatile sig_atomic_t children_died, last_handled;
static char remembered[STATE];

struct transaction {
    pam_handle_t *pam;
    size_t next;
};

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...) {
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

int getpwnam_r(const char *name, struct passwd *entry, char *buffer, size_t size, struct passwd **found) {
    int (*real)(const char *, struct passwd *, char *, size_t, struct passwd **);
    *found = NULL;
    if (strcmp(nss, "error") == 0)
        return EIO;
    if (strcmp(nss, "endless") == 0 || (strcmp(nss, "huge") == 0 && size < 100000))
        return ERANGE;
    *(void **)&real = dlsym(RTLD_NEXT, "getpwnam_r");
    return real(name, entry, buffer, size, found);
}

static int signal_number(const char *name) {
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

static int item_number(const char *name) {
    static const struct {
        const char *name;
        int number;
    } known[] = {
        {"USER", PAM_USER}, {"SERVICE", PAM_SERVICE}, {"RUSER", PAM_RUSER}, {"RHOST", PAM_RHOST}, {"TTY", PAM_TTY}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strncmp(name, known[i].name, strlen(known[i].name)) == 0)
            return known[i].number;
    _exit(98);
}

static void set_item(pam_handle_t *pam, const char *argument) {
    if (pam_set_item(pam, item_number(argument), strchr(argument, ':') + 1) != PAM_SUCCESS)
        _exit(97);
}

static char *unhex(const char *text) {
    char *bytes = calloc(1, strlen(text) / 2 + 1);
    for (size_t i = 0; text[2 * i]; i++)
        sscanf(text + 2 * i, "%2hhx", (unsigned char *)bytes + i);
    return bytes;
}

static char *big(size_t size) {
    char *bytes = calloc(1, size + 1);
    memset(bytes, 'x', size);
    return bytes;
}

/* One scripted answer: what libpam's conversation returns, and the response's text in *text. */
static int answer(struct transaction *t, const char *script, char **text) {
    const char *argument = strchr(script, ':') ? strchr(script, ':') + 1 : "";
    if (strncmp(script, "error", 5) == 0)
        return PAM_CONV_ERR;
    if (strncmp(script, "noresp", 6) == 0)
        return PAM_SUCCESS;
    if (strncmp(script, "exit", 4) == 0)
        _exit(7);
    if (strncmp(script, "late", 4) == 0)
        usleep((useconds_t)atoi(argument) * 1000);
    if (strncmp(script, "raise", 5) == 0)
        kill(getpid(), signal_number(argument));
    if (strncmp(script, "item", 4) == 0)
        set_item(t->pam, argument);
    if (strncmp(script, "hex", 3) == 0)
        *text = unhex(argument);
    else if (strncmp(script, "big", 3) == 0)
        *text = big((size_t)atol(argument));
    else if (strncmp(script, "late", 4) == 0 || strncmp(script, "raise", 5) == 0)
        *text = strdup(strchr(argument, ':') + 1);
    else
        *text = strdup(argument);
    return PAM_SUCCESS;
}

static int converse(int count, const struct pam_message **messages, struct pam_response **responses, void *data) {
    struct transaction *t = data;
    const struct pam_message *message = messages[0];
    char hex[2 * 4096 + 1] = "";
    for (size_t i = 0; message->msg[i] && i < 3500; i++)
        sprintf(hex + 2 * i, "%02x", (unsigned char)message->msg[i]);
    say("conv %d %d %s\n", count, message->msg_style, hex);
    bool prompt = message->msg_style == PAM_PROMPT_ECHO_ON || message->msg_style == PAM_PROMPT_ECHO_OFF;
    const char *script = prompt ? (t->next < answer_count ? answers[t->next++] : "error") : info;
    *responses = NULL;
    if (strcmp(script, "null") == 0)
        return PAM_SUCCESS;
    char *text = NULL;
    int code = answer(t, script, &text);
    if (code == PAM_SUCCESS) {
        *responses = calloc(1, sizeof **responses);
        (*responses)->resp = text;
        (*responses)->resp_retcode = 99; /* hosts leave anything there */
    }
    return code;
}

static struct pam_conv conversation_of(struct transaction *t) {
    return (struct pam_conv){no_conv ? NULL : converse, t};
}

static void start(struct transaction *t) {
    struct pam_conv conv = conversation_of(t);
    t->next = 0;
    if (pam_start_confdir(service, strcmp(user, "-") == 0 ? NULL : user, &conv, confdir, &t->pam) != PAM_SUCCESS)
        _exit(96);
}

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void *one_transaction(void *unused) {
    struct transaction t = {0};
    (void)unused;
    start(&t);
    int code = pam_authenticate(t.pam, 0);
    pam_end(t.pam, code);
    say("auth %d\n", code);
    return NULL;
}

static void threads(long count) {
    pthread_t all[256];
    for (long i = 0; i < count; i++)
        pthread_create(&all[i], NULL, one_transaction, NULL);
    for (long i = 0; i < count; i++)
        pthread_join(all[i], NULL);
}

static long resident_kb(void) {
    long pages = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (fscanf(file, "%ld %ld", &pages, &resident) != 2)
        _exit(95);
    fclose(file);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static void repeat(long count) {
    long granted = 0, warm = 0;
    for (long i = 0; i < count; i++) {
        struct transaction t = {0};
        start(&t);
        int code = pam_authenticate(t.pam, 0);
        granted += code == PAM_SUCCESS;
        pam_end(t.pam, code);
        if (i == count / 4)
            warm = resident_kb();
    }
    say("repeat %ld granted %ld grown %ld\n", count, granted, resident_kb() - warm);
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

static void direct(struct transaction *t, char *arguments) {
    const char *argv[MOST];
    int argc = 0;
    char *path = strsep(&arguments, ","), *argument;
    while ((argument = strsep(&arguments, ",")))
        argv[argc++] = argument;
    int (*authenticate)(pam_handle_t *, int, int, const char **);
    *(void **)&authenticate = dlsym(dlopen(path, RTLD_NOW | RTLD_LOCAL), "pam_sm_authenticate");
    errno = ELOOP;
    int code = authenticate(t->pam, 0, argc, argv);
    say("direct %d errno %s\n", code, errno == ELOOP ? "kept" : "lost");
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

static void transaction_step(struct transaction *t, const char *word, const char *argument) {
    static const struct {
        const char *word;
        int (*call)(pam_handle_t *, int);
    } calls[] = {{"auth", pam_authenticate},
                 {"setcred", pam_setcred},
                 {"acct", pam_acct_mgmt},
                 {"open", pam_open_session},
                 {"close_session", pam_close_session},
                 {"chauthtok", pam_chauthtok}};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if (strcmp(word, calls[i].word) == 0) {
            int64_t before = now_ms();
            say("calling %s\n", word);
            int code = calls[i].call(t->pam, (int)strtol(argument, NULL, 0));
            say("%s %d\ntook %lld\n", word, code, (long long)(now_ms() - before));
            return;
        }
    _exit(92);
}

static void process_step(const char *word, const char *argument) {
    if (strcmp(word, "limit") == 0)
        limit(argument);
    else if (strcmp(word, "close") == 0)
        close(atoi(argument));
    else if (strcmp(word, "umask") == 0)
        umask((mode_t)strtol(argument, NULL, 8));
    else if (strcmp(word, "cwd") == 0    ? chdir(argument)
             : strcmp(word, "euid") == 0 ? seteuid((uid_t)atoi(argument))
                                         : 0)
        _exit(91);
    else if (strcmp(word, "ruid") == 0 && setresuid((uid_t)atoi(argument), (uid_t)-1, (uid_t)-1) != 0)
        _exit(91);
    else if (strcmp(word, "groups") == 0) {
        gid_t groups[2] = {(gid_t)atoi(argument), (gid_t)atoi(strchr(argument, ',') + 1)};
        if (setgroups(2, groups) != 0)
            _exit(91);
    } else if (strcmp(word, "locale") == 0)
        setlocale(LC_ALL, argument);
    else if (strcmp(word, "storm") == 0) {
        struct timeval every = {.tv_usec = atoi(argument) * 1000};
        signals("handle", "ALRM");
        setitimer(ITIMER_REAL, &(struct itimerval){every, every}, NULL);
    } else if (strcmp(word, "env") == 0)
        putenv(strdup(argument));
    else if (strcmp(word, "handled") == 0)
        say("handled %d\n", (int)last_handled);
}

static void step(struct transaction *t, char *text) {
    char *argument = strchr(text, '='), *word = text;
    static char nothing[] = "";
    if (argument)
        *argument++ = '\0';
    else
        argument = nothing;
    if (strcmp(word, "answer") == 0)
        answers[answer_count++] = argument;
    else if (strcmp(word, "info") == 0)
        info = argument;
    else if (strcmp(word, "nss") == 0)
        nss = argument;
    else if (strcmp(word, "noconv") == 0) {
        no_conv = true;
        struct pam_conv conv = conversation_of(t);
        pam_set_item(t->pam, PAM_CONV, &conv);
    } else if (strcmp(word, "item") == 0)
        set_item(t->pam, argument);
    else if (strcmp(word, "penv") == 0)
        pam_putenv(t->pam, argument);
    else if (strcmp(word, "state") == 0)
        describe(remembered, sizeof remembered);
    else if (strcmp(word, "same") == 0)
        same();
    else if (strcmp(word, "ignore") == 0 || strcmp(word, "block") == 0 || strcmp(word, "handle") == 0 ||
             strcmp(word, "raise") == 0)
        signals(word, argument);
    else if (strcmp(word, "threads") == 0)
        threads(atol(argument));
    else if (strcmp(word, "repeat") == 0)
        repeat(atol(argument));
    else if (strcmp(word, "direct") == 0)
        direct(t, argument);
    else if (strcmp(word, "children") == 0)
        children();
    else if (strcmp(word, "exec") == 0)
        inherited();
    else if (strstr("limit close umask cwd euid ruid groups locale storm env handled", word))
        process_step(word, argument);
    else
        transaction_step(t, word, argument);
}

int main(int argc, char **argv) {
    struct transaction t = {0};
    if (argc < 4 || dup2(1, OUT) < 0 || fcntl(OUT, F_SETFD, FD_CLOEXEC) != 0)
        return 90;
    confdir = argv[1];
    service = argv[2];
    user = argv[3];
    start(&t);
    for (int i = 4; i < argc; i++)
        step(&t, argv[i]);
    pam_end(t.pam, PAM_SUCCESS);
    return 0;
}
