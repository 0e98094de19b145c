-- Proofs that also hold for further logins. tag is a keyed hash of whose, where and in which boot; sealed hides what
-- is shown of it and binds all other columns, so that whoever can write this file alone cannot make one.
CREATE TABLE lease (
    uid     INTEGER NOT NULL,
    tag     BLOB NOT NULL CHECK (length(tag) = 32),
    boot_id TEXT NOT NULL,
    began   INTEGER NOT NULL CHECK (began >= 0x4000000000000000),
    ends    INTEGER NOT NULL CHECK (ends >= 0x4000000000000000),
    sealed  BLOB NOT NULL,
    PRIMARY KEY (uid, tag)
) STRICT, WITHOUT ROWID;

-- Whatever takes a credential away ends what was given for its proof, in the same transaction.
CREATE TRIGGER lease_ends AFTER DELETE ON credential BEGIN
    DELETE FROM lease WHERE uid = OLD.uid;
END;
