/* The process side of the host program: its state, limits, signals and output. */
#ifndef HOST_H
#define HOST_H

#include <stdbool.h>

enum { OUT = 200 }; /* a copy of stdout that no step closes */

/* Writes a line to OUT. */
__attribute__((format(printf, 1, 2))) void say(const char *format, ...);

/* The number of a signal by its name without SIG. */
int signal_number(const char *name);

/* Does a step that concerns the process and not PAM; false for every other word. */
bool process_step(const char *word, const char *argument);

#endif
