#ifndef PAM_MFA_NAME_H
#define PAM_MFA_NAME_H

#include <stdbool.h>
#include <string.h>

enum { MAX_NAME = 256 }; /* bytes; the shim and the password helper must take the same names */

/* What names need on Debian and in Active Directory (PROTOCOL.md), and nothing a path or a log could trip over. */
static inline bool portable(const char *name) {
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-@+\\";
    size_t plain = strspn(name, allowed);
    return plain > 0 && !strchr("-.", name[0]) && (!name[plain] || strcmp(name + plain, "$") == 0);
}

#endif
