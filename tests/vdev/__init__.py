"""Software security keys; see README.md. Neither pam_mfa nor fido2 is imported: nothing is tested against itself."""
