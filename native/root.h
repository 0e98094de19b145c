#ifndef PAM_MFA_ROOT_H
#define PAM_MFA_ROOT_H

#include <sys/types.h>

/* From FREE_FD on: whatever else stays open. */
enum { SESSION_FD = 3, KEY_FD = 4, DEVICES_FD = 5, VERIFY_FD = 6, FREE_FD = 10 };

#define SERVICE_ACCOUNT "pam-mfa"
enum { MAX_GROUPS = 32 };

struct account {
    uid_t uid;
    gid_t gid;
    size_t group_count; /* supplementary ones: none until find_groups() */
    gid_t groups[MAX_GROUPS];
};

/* One line to stderr and syslog, then the end. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* `result` back, or the end where it is negative (errno set). */
int must(int result, const char *what);
/* Moves an fd out of the way of the fixed numbers, close-on-exec; returns the new number. */
int keep_open(int low);

/* Nothing of the starter's surroundings is kept but its environment and open files: signals as if nobody had touched
 * them (SIGPIPE and SIGXFSZ become errors of the call, as Python expects), fds 0-2 open, umask 077, no core files; no
 * limit that could hold us up, and for root the usual scheduling, as far as we may. */
void forget_caller(void);
/* Is this fd an AF_UNIX SOCK_SEQPACKET socket, listening (1) or not (0)? */
int is_seqpacket(int fd, int listening);

/* A system account of ours; ends the process where there is none. */
struct account find_account(const char *name);
/* The same; returns 0 where there is none. */
int look_for_account(const char *name, struct account *account);
/* Adds the groups that /etc/group has the account in. */
void find_groups(const char *name, struct account *account);
/* Opens directory/seal.key as KEY_FD: 32 bytes, owned by root or `owner`, none of the `forbidden` mode bits. */
void open_key(const char *directory, uid_t owner, mode_t forbidden);
/* Makes /run/pam-mfa where it is absent; ends the process where somebody else could write to it. */
void check_run_directory(void);
/* Makes /run/pam-mfa/pending where it is absent, the account's, for all to read. No login fails for want of it. */
void offer_pending_directory(struct account account);
/* Makes /var/lib/pam-mfa where it is absent, the account's alone; ends the process where others have a part in it. */
void check_state_directory(struct account account);
/* Locks /run/pam-mfa/NAME for as long as this process lives; 0, or -1 where another process holds it. */
int lock_file(const char *name);
/* Listens on /run/pam-mfa/NAME; the name appears only when the socket is complete. Returns an fd >= FREE_FD. */
int listen_on(const char *name, uid_t owner, mode_t mode);
/* Starts /usr/lib/pam-mfa/NAME on this listening socket (which is closed here); it ends when this process does. */
void start_helper(const char *name, int listener);
/* Becomes `account` for good: ids, its groups and no others, no capabilities, no new privileges, not dumpable. */
void drop_to(struct account account);

#endif
