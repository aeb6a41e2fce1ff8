-- Registration tokens. Text is compared byte for byte: BINARY is the default.
-- An id is never used twice. "Never" and "any number" are 9223372036854775807,
-- so that an index gives the order of a list. taken counts the token's rows in
-- uia_uses, held those of them that are held: so nobody has to count the holds that
-- have lapsed.
CREATE TABLE IF NOT EXISTS uia_tokens (
	id           INTEGER PRIMARY KEY AUTOINCREMENT,
	token        TEXT NOT NULL UNIQUE,
	uses_allowed INTEGER NOT NULL,
	taken        INTEGER NOT NULL DEFAULT 0 CHECK (taken >= 0),
	held         INTEGER NOT NULL DEFAULT 0 CHECK (held >= 0 AND held <= taken),
	expires      INTEGER NOT NULL,
	revoked      INTEGER NOT NULL DEFAULT 0,
	label        TEXT NOT NULL,
	meta         TEXT,
	created      INTEGER NOT NULL,
	created_by   TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS uia_tokens_created ON uia_tokens (created, token);
CREATE INDEX IF NOT EXISTS uia_tokens_expires ON uia_tokens (expires, token);
CREATE INDEX IF NOT EXISTS uia_tokens_uses_allowed ON uia_tokens (uses_allowed, token);
CREATE INDEX IF NOT EXISTS uia_tokens_label ON uia_tokens (label);

-- The uses of tokens. state: 1 held, 2 pinned, 3 spent. stamp: when a hold
-- lapses, since when a use is pinned, when it was spent. token_id is no foreign
-- key, because the pinned and spent uses of a deleted token stay. Without a row ID
-- there is one tree less to write.
CREATE TABLE IF NOT EXISTS uia_uses (
	session  TEXT NOT NULL,
	token    TEXT NOT NULL,
	token_id INTEGER NOT NULL,
	state    INTEGER NOT NULL,
	stamp    INTEGER NOT NULL,
	run      INTEGER NOT NULL,
	user_id  TEXT NOT NULL,
	made     INTEGER NOT NULL,
	changed  INTEGER NOT NULL,
	PRIMARY KEY (session, token)
) WITHOUT ROWID;
-- Serves the counts and the last use of one token, and the holds to displace.
CREATE INDEX IF NOT EXISTS uia_uses_counts ON uia_uses (token_id, state, stamp, session);
-- Serves the list of one token's uses.
CREATE INDEX IF NOT EXISTS uia_uses_made ON uia_uses (token_id, made, session);
-- Serves Recover and the sweep, and holds no spent use: only those have a user.
-- (WHERE state < 3 would let the counts of one token use it, which would then go
-- through the open uses of all tokens.)
CREATE INDEX IF NOT EXISTS uia_uses_open ON uia_uses (state, stamp, session) WHERE user_id = '';

-- Records of sessions. data is sealed.
CREATE TABLE IF NOT EXISTS uia_sessions (
	key      TEXT NOT NULL PRIMARY KEY,
	revision INTEGER NOT NULL,
	state    INTEGER NOT NULL,
	run      INTEGER NOT NULL,
	owner    TEXT NOT NULL,
	lease    INTEGER NOT NULL,
	expires  INTEGER NOT NULL,
	data     BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS uia_sessions_expires ON uia_sessions (expires, key);

-- The secrets that the processes of one homeserver share. since: when they begin
-- to seal with it.
CREATE TABLE IF NOT EXISTS uia_secrets (
	number INTEGER PRIMARY KEY,
	value  BLOB NOT NULL,
	since  INTEGER NOT NULL
);
