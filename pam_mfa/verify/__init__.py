"""Certificate paths and revocation lists, checked in a process of its own: no devices, no store, no network."""
