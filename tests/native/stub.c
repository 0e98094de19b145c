/* Stands in for the engine: writes down how it was started (EXE.report), then does what EXE.mode says.
 *
 * grant deny     ask one question, then RESULT         linger   grant, then stay after the shim has left
 * mute           say nothing until the shim leaves     exit     end at once, without a frame
 */
#include "wire.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SESSION = 3 };

static FILE *beside(const char *suffix, const char *mode) {
    char path[512];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 32);
    strcpy(path + (length > 0 ? length : 0), suffix);
    return fopen(path, mode);
}

static void report_fds(FILE *report) {
    char path[300], target[256];
    DIR *directory = opendir("/proc/self/fd");
    for (struct dirent *entry; (entry = readdir(directory));) {
        int fd = atoi(entry->d_name);
        if (entry->d_name[0] == '.' || fd == dirfd(directory) || fd == fileno(report))
            continue;
        snprintf(path, sizeof path, "/proc/self/fd/%s", entry->d_name);
        ssize_t length = readlink(path, target, sizeof target - 1);
        fprintf(report, "fd %d %.*s\n", fd, (int)length, target);
    }
    closedir(directory);
}

static void report_status(FILE *report) {
    char line[256];
    FILE *status = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof line, status))
        if (strstr("Uid:Gid:Groups:SigBlk:SigIgn:SigCgt:Umask:", strtok(strdup(line), "\t")))
            fputs(line, report);
    fclose(status);
}

static void report_start(int argc, char **argv) {
    FILE *report = beside(".report", "w");
    char cwd[512] = "";
    int death = 0;
    struct rlimit core;
    report_fds(report);
    report_status(report);
    for (int i = 0; i < argc; i++)
        fprintf(report, "argv %s\n", argv[i]);
    for (char **entry = environ; *entry; entry++)
        fprintf(report, "env %s\n", *entry);
    prctl(PR_GET_PDEATHSIG, &death);
    getrlimit(RLIMIT_CORE, &core);
    fprintf(report, "cwd %s\ndeath %d\ncore %lu %lu\n", getcwd(cwd, sizeof cwd), death, core.rlim_cur, core.rlim_max);
    fprintf(report, "session %s\npid %d\nparent %d\n", getsid(0) == getppid() ? "supervisor's" : "other", getpid(),
            getppid());
    fclose(report);
}

static void report_nonce(const uint8_t *nonce) {
    FILE *report = beside(".report", "a");
    fputs("nonce ", report);
    for (int i = 0; i < WIRE_NONCE; i++)
        fprintf(report, "%02x", nonce[i]);
    fputs("\n", report);
    fclose(report);
}

static bool receive(struct frame *frame) {
    ssize_t size = recv(SESSION, frame->bytes, sizeof frame->bytes, 0);
    frame->size = size > 0 ? (size_t)size : 0;
    return size > 0;
}

static void send_frame(enum frame_type type, const void *payload, size_t size) {
    struct frame frame;
    frame_start(&frame, type);
    frame_append(&frame, payload, size);
    if (send(SESSION, frame.bytes, frame.size, MSG_NOSIGNAL) < 0)
        _exit(1);
}

static void answer(enum outcome outcome) {
    struct frame hello, reply;
    uint8_t result[1 + 4 + WIRE_NONCE] = {(uint8_t)outcome};
    if (!receive(&hello))
        _exit(1);
    report_nonce(hello.bytes + WIRE_HEADER + 3);
    memcpy(result + 5, hello.bytes + WIRE_HEADER + 3, WIRE_NONCE); /* the nonce is HELLO's first field */
    send_frame(FRAME_ALIVE, "", 0);
    send_frame(FRAME_ASK_SECRET, "Engine's code: ", 15);
    if (receive(&reply) && reply.bytes[1] == FRAME_REPLY)
        send_frame(FRAME_RESULT, result, sizeof result);
}

int main(int argc, char **argv) {
    struct frame frame;
    char mode[32] = "";
    FILE *file = beside(".mode", "r");
    if (!file || !fgets(mode, sizeof mode, file))
        return 2;
    fclose(file);
    report_start(argc, argv);
    if (strcmp(mode, "grant") == 0 || strcmp(mode, "linger") == 0)
        answer(OUTCOME_GRANTED);
    else if (strcmp(mode, "deny") == 0)
        answer(OUTCOME_DENIED);
    while (strcmp(mode, "exit") != 0 && receive(&frame))
        ;
    prctl(PR_SET_PDEATHSIG, 0); /* as after the engine's change of ids */
    while (strcmp(mode, "linger") == 0)
        pause();
    return 0;
}
