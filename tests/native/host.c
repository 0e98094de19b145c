/* A host program for the shim, scripted by its arguments: host CONFDIR SERVICE USER STEP...
 *
 * Each STEP is word[=argument]; steps run in order and report as lines on stdout (a copy of it, so it may be closed).
 *
 * item=NAME:VALUE, penv=K=V: PAM item, PAM environment
 * answer=KIND[:ARGUMENT]: queued for the next prompt. KIND: text, hex, big (size), null, noresp, error, late (ms:text),
 *     raise (signal:text), item (NAME:VALUE), clock (seconds by which the shim's clock goes on:text)
 * info=KIND: how texts are answered, null unless said
 * noconv: a conversation without function
 * nss=MODE: getpwnam_r is real, error, huge (wants 100 kB) or endless (always ERANGE)
 * auth[=FLAGS], setcred, acct, open, close_session, chauthtok: through libpam
 * direct=MODULE,ARGUMENT...: pam_sm_authenticate itself, with errno set before and looked at after
 * threads=N, repeat=N: N transactions at once, or one after the other
 *
 * env=K=V, limit=NAME:N, close=N, umask=OCTAL, cwd=PATH, euid=N, ruid=N, groups=N,N, locale=NAME: the process
 * ignore=SIG, block=SIG, handle=SIG, raise=SIG, storm=MS: its signals; storm is SIGALRM every so many ms
 * state, same: remembers what a module must leave as it was; tells what has changed
 * handled, children, exec: the last signal handled, what wait() sees, what a program started now inherits
 */
#include "host.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <pwd.h>
#include <security/pam_appl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 64 };

static const char *confdir, *service, *user, *nss = "real", *info = "null";
static const char *answers[MOST];
static size_t answer_count;
static bool no_conv;
static time_t clock_ahead;

struct transaction {
    pam_handle_t *pam;
    size_t next;
};

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

/* The clock of the shim's deadlines, which an answer can put forward. */
int clock_gettime(clockid_t clock, struct timespec *now) {
    int (*real)(clockid_t, struct timespec *);
    *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (clock == CLOCK_BOOTTIME)
        now->tv_sec += clock_ahead;
    return result;
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
    if (strncmp(script, "late", 4) == 0)
        usleep((useconds_t)atoi(argument) * 1000);
    if (strncmp(script, "clock", 5) == 0)
        clock_ahead += atoi(argument);
    if (strncmp(script, "raise", 5) == 0)
        kill(getpid(), signal_number(argument));
    if (strncmp(script, "item", 4) == 0)
        set_item(t->pam, argument);
    if (strncmp(script, "hex", 3) == 0)
        *text = unhex(argument);
    else if (strncmp(script, "big", 3) == 0)
        *text = big((size_t)atol(argument));
    else if (strncmp(script, "late", 4) == 0 || strncmp(script, "raise", 5) == 0 || strncmp(script, "clock", 5) == 0)
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
    else if (strcmp(word, "threads") == 0)
        threads(atol(argument));
    else if (strcmp(word, "repeat") == 0)
        repeat(atol(argument));
    else if (strcmp(word, "direct") == 0)
        direct(t, argument);
    else if (!process_step(word, argument))
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
