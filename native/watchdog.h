#ifndef PAM_MFA_WATCHDOG_H
#define PAM_MFA_WATCHDOG_H

enum { WATCHDOG_EXIT = 3 };

/* From now on a thread of its own ends this process with status WATCHDOG_EXIT: 200 ms after the other end of `fd` is
 * gone
 * (-1: nobody to watch) and at the latest after total_seconds, suspend included; also while Python spins or hangs.
 * Returns 0, or an errno value when it could not be armed. */
int watchdog_arm(int fd, unsigned total_seconds);

#endif
