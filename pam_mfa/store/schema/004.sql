-- How often somebody without a credential was let in by a rule's logins_left: a row for each uid that was.
CREATE TABLE grace (
    uid  INTEGER NOT NULL PRIMARY KEY,
    used INTEGER NOT NULL CHECK (used >= 0x4000000000000000)
) STRICT;
