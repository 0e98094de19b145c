"""`pam-mfa try`: a change of PAM files or settings that takes itself back unless somebody gets in with it."""
