"""The command `pam-mfa`."""
