-- Whether a security key's sign count fell back. SQLite stores 0 and 1 in no byte at all, so the mark never lengthens a row.
ALTER TABLE credential ADD COLUMN suspect INTEGER NOT NULL DEFAULT 0 CHECK (suspect IN (0, 1));

-- A row from before lacks the column until it is written: the next login would lengthen it.
UPDATE credential SET suspect = 0;
