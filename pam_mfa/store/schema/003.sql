-- Who else has a credential of this id is asked at every login with a smartcard. No login changes an id, so none changes this.
CREATE INDEX credential_by_id ON credential (id);
