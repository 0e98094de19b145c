/* See watchdog.h. Plain C: a Python thread would wait for the very lock that a hanging process holds. */
#include "watchdog.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static const struct timespec GRACE = {.tv_nsec = 200 * 1000 * 1000}; /* a session that notices by itself ends cleanly */

struct watch {
    int client, deadline;
};

static void *keep_watch(void *argument) {
    struct watch watch = *(struct watch *)argument;
    struct pollfd fds[] = {{.fd = watch.deadline, .events = POLLIN}, {.fd = watch.client, .events = POLLRDHUP}};
    free(argument);
    for (;;) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR && errno != ENOMEM)
            break;
        if (fds[0].revents)
            break;
        if (fds[1].revents & POLLNVAL)
            fds[1].fd = -1; /* the process closed it itself: its work is done, only the deadline counts */
        else if (fds[1].revents) {
            nanosleep(&GRACE, NULL);
            break;
        }
    }
    _exit(WATCHDOG_EXIT);
}

static int start_thread(struct watch *watch) {
    sigset_t all, before;
    pthread_t thread;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* the process's signals are for Python's own threads */
    int error = pthread_create(&thread, NULL, keep_watch, watch);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

int watchdog_arm(int fd, unsigned total_seconds) {
    struct itimerspec total = {.it_value.tv_sec = total_seconds};
    if (!total_seconds)
        return EINVAL; /* a timer of zero never rings */
    struct watch *watch = malloc(sizeof *watch);
    if (!watch)
        return ENOMEM;
    *watch = (struct watch){.client = fd, .deadline = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC)};
    int error = watch->deadline < 0 || timerfd_settime(watch->deadline, 0, &total, NULL) ? errno : start_thread(watch);
    if (error) {
        if (watch->deadline >= 0)
            close(watch->deadline);
        free(watch);
    }
    return error;
}
