"""Writes the C of pam_mfa._native._libpam: libpam as a PAM client sees it. pam_mfa/pam.py is its face."""

from __future__ import annotations

import sys

from cffi import FFI

CODES = """
    SUCCESS OPEN_ERR SYMBOL_ERR SERVICE_ERR SYSTEM_ERR BUF_ERR PERM_DENIED AUTH_ERR CRED_INSUFFICIENT
    AUTHINFO_UNAVAIL USER_UNKNOWN MAXTRIES NEW_AUTHTOK_REQD ACCT_EXPIRED SESSION_ERR CRED_UNAVAIL CRED_EXPIRED
    CRED_ERR NO_MODULE_DATA CONV_ERR AUTHTOK_ERR AUTHTOK_RECOVERY_ERR AUTHTOK_LOCK_BUSY AUTHTOK_DISABLE_AGING
    TRY_AGAIN IGNORE ABORT AUTHTOK_EXPIRED MODULE_UNKNOWN BAD_ITEM CONV_AGAIN INCOMPLETE
""".split()
ITEMS = "SERVICE USER TTY RHOST CONV AUTHTOK OLDAUTHTOK RUSER USER_PROMPT FAIL_DELAY XDISPLAY AUTHTOK_TYPE".split()
STYLES = "PROMPT_ECHO_OFF PROMPT_ECHO_ON ERROR_MSG TEXT_INFO".split()
FLAGS = """
    SILENT DISALLOW_NULL_AUTHTOK ESTABLISH_CRED DELETE_CRED REINITIALIZE_CRED REFRESH_CRED CHANGE_EXPIRED_AUTHTOK
""".split()

ffi = FFI()
ffi.cdef("".join(f"#define PAM_{name} ...\n" for name in CODES + ITEMS + STYLES + FLAGS))
ffi.cdef("""
    typedef struct pam_handle pam_handle_t;
    struct pam_message { int msg_style; const char *msg; ...; };
    struct pam_response { char *resp; int resp_retcode; ...; };
    struct pam_conv {
        int (*conv)(int, const struct pam_message **, struct pam_response **, void *);
        void *appdata_ptr;
        ...;
    };
    int pam_start(const char *, const char *, const struct pam_conv *, pam_handle_t **);
    int pam_start_confdir(const char *, const char *, const struct pam_conv *, const char *, pam_handle_t **);
    int pam_end(pam_handle_t *, int);
    int pam_set_item(pam_handle_t *, int, const void *);
    int pam_get_item(const pam_handle_t *, int, const void **);
    int pam_authenticate(pam_handle_t *, int);
    int pam_setcred(pam_handle_t *, int);
    int pam_acct_mgmt(pam_handle_t *, int);
    int pam_open_session(pam_handle_t *, int);
    int pam_close_session(pam_handle_t *, int);
    int pam_chauthtok(pam_handle_t *, int);
    int pam_putenv(pam_handle_t *, const char *);
    const char *pam_strerror(pam_handle_t *, int);
    void *calloc(size_t, size_t);
    void free(void *);
    char *strdup(const char *);

    extern "Python" int converse(int, const struct pam_message **, struct pam_response **, void *);
    extern "Python" void delay(int, unsigned, void *);
""")
ffi.set_source(
    "pam_mfa._native._libpam",
    """
    #include <security/pam_appl.h>
    #include <stdlib.h>
    #include <string.h>
    """,
)

if __name__ == "__main__":
    ffi.emit_c_code(sys.argv[1])
