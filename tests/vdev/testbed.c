/* In /etc/ld.so.preload of a private machine, before umockdev's library: every program there finds the testbed, also
 * one that is setuid or clears its environment. */
#include <stddef.h>
#include <string.h>

extern char **environ;

char *getenv(const char *name) {
    static char testbed[] = TESTBED;
    const size_t length = strlen(name);
    if (!strcmp(name, "UMOCKDEV_DIR"))
        return testbed;
    for (char **entry = environ; entry && *entry; entry++)
        if (!strncmp(*entry, name, length) && (*entry)[length] == '=')
            return *entry + length + 1;
    return NULL;
}
