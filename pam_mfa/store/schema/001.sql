-- Every number is stored as 2^62 + n (see README.md): it takes eight bytes whatever it counts, so that
-- changing it never makes a row longer. The checks hold the numbers that a login changes to that.

CREATE TABLE meta (
    name  TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- One row for each uid that has a credential; the seal binds uid, user and the ids of all its credentials.
CREATE TABLE account (
    uid  INTEGER NOT NULL PRIMARY KEY,
    user TEXT NOT NULL,
    seal BLOB NOT NULL
) STRICT;

-- uid, id, factor, created and (from account) user are bound by the seal of material.
CREATE TABLE credential (
    uid      INTEGER NOT NULL,
    id       TEXT NOT NULL CHECK (length(id) = 32 AND id NOT GLOB '*[^0-9a-f]*'),
    factor   TEXT NOT NULL,
    created  INTEGER NOT NULL,
    label    TEXT NOT NULL,
    mark     INTEGER NOT NULL CHECK (mark >= 0x4000000000000000),
    used     INTEGER NOT NULL CHECK (used >= 0x4000000000000000),
    material BLOB NOT NULL,
    PRIMARY KEY (uid, id)
) STRICT, WITHOUT ROWID;

-- Consecutive failures; boot_id is padded to 36 characters and blank where there is no last failure.
CREATE TABLE tally (
    uid      INTEGER NOT NULL,
    factor   TEXT NOT NULL,
    failures INTEGER NOT NULL CHECK (failures >= 0x4000000000000000),
    wall     INTEGER NOT NULL CHECK (wall >= 0x4000000000000000),
    boot     INTEGER NOT NULL CHECK (boot >= 0x4000000000000000),
    boot_id  TEXT NOT NULL CHECK (length(boot_id) = 36),
    PRIMARY KEY (uid, factor)
) STRICT, WITHOUT ROWID;
