"""The store: what is enrolled, what was used, and who has to wait. See README.md."""
