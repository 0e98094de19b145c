/* The engine: the service's program in its other role, started for one session of a root caller. */
#ifndef PAM_MFA_SPAWN_H
#define PAM_MFA_SPAWN_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

struct engine {
    pid_t supervisor;
    int pidfd;
};

/* Whether this file, of this type (S_IFREG, S_IFDIR), is root's and nobody else can write to it. */
bool only_root_writes(const struct stat *file, mode_t type);

/* Starts it. Returns our end of its session socket, or -1 with errno (EPERM: others may write to the program). */
int engine_start(struct engine *engine, const char *path);

/* Waits at most a second for its end, then ends it. Our end of the socket must be closed by now. */
void engine_end(const struct engine *engine);

#endif
