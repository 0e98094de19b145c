"""The checks of `pam-mfa doctor`, one file for each area."""
