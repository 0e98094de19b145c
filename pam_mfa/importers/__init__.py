"""Reading what other programs keep of security keys. Pure: bytes in, a report for every line out."""
