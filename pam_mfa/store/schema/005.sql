-- What users are to hear of at their next login; by number, and the words sealed. No login makes one, or makes one longer.
CREATE TABLE notice (
    uid    INTEGER NOT NULL,
    number INTEGER NOT NULL,
    user   TEXT NOT NULL,
    words  BLOB NOT NULL,
    PRIMARY KEY (uid, number)
) STRICT, WITHOUT ROWID;
