-- What users are to hear of at their next login; by number, and the words sealed. No login makes one, or makes one longer.
CREATE TABLE notice (
    uid    INTEGER NOT NULL,
    number INTEGER NOT NULL CHECK (number > 0x4000000000000000),
    user   TEXT NOT NULL,
    words  BLOB NOT NULL,
    PRIMARY KEY (uid, number)
) STRICT, WITHOUT ROWID;

-- The number of the last one that nobody has to hear of any more: no number is ever given twice. Made with the first notice.
CREATE TABLE heard (
    uid    INTEGER NOT NULL PRIMARY KEY,
    number INTEGER NOT NULL CHECK (number >= 0x4000000000000000)
) STRICT;
