-- familiar: the sources from which an account was proven last, 16 bytes of a keyed hash each, and what failed from there.
-- Always of the same length, as everything that a login changes; so an older row gets its room here.
CREATE TABLE tally_of_sources (
    uid      INTEGER NOT NULL,
    factor   TEXT NOT NULL,
    failures INTEGER NOT NULL CHECK (failures >= 0x4000000000000000),
    wall     INTEGER NOT NULL CHECK (wall >= 0x4000000000000000),
    boot     INTEGER NOT NULL CHECK (boot >= 0x4000000000000000),
    boot_id  TEXT NOT NULL CHECK (length(boot_id) = 36),
    familiar BLOB NOT NULL CHECK (length(familiar) = 276),
    PRIMARY KEY (uid, factor)
) STRICT, WITHOUT ROWID;

-- A row that is damaged is left out: whose it is is told so, and everybody else goes on.
INSERT OR IGNORE INTO tally_of_sources SELECT uid, factor, failures, wall, boot, boot_id, zeroblob(276) FROM tally;
DROP TABLE tally;
ALTER TABLE tally_of_sources RENAME TO tally;
