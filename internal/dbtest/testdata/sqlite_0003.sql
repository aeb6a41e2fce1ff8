-- The schema 0001, with rows in it. Never change this file.
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
CREATE INDEX IF NOT EXISTS uia_uses_counts ON uia_uses (token_id, state, stamp, session);
CREATE INDEX IF NOT EXISTS uia_uses_made ON uia_uses (token_id, made, session);
CREATE INDEX IF NOT EXISTS uia_uses_open ON uia_uses (state, stamp, session) WHERE user_id = '';
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
CREATE TABLE IF NOT EXISTS uia_secrets (
	number INTEGER PRIMARY KEY,
	value  BLOB NOT NULL,
	since  INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS uia_deleted (
	id    INTEGER PRIMARY KEY,
	token TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS uia_deleted_token ON uia_deleted (token);
CREATE TABLE IF NOT EXISTS uia_gateway_claims (
	key       TEXT NOT NULL PRIMARY KEY,
	localpart TEXT NOT NULL,
	run       INTEGER NOT NULL,
	state     INTEGER NOT NULL,
	sealed    BLOB,
	changed   INTEGER NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS uia_gateway_claims_open ON uia_gateway_claims (localpart) WHERE state IN (2, 3);
CREATE INDEX IF NOT EXISTS uia_gateway_claims_changed ON uia_gateway_claims (state, changed, key);
CREATE INDEX IF NOT EXISTS uia_gateway_claims_name ON uia_gateway_claims (localpart, state);
CREATE TABLE uia_migrations (version BIGINT PRIMARY KEY, applied BIGINT NOT NULL);
INSERT INTO uia_migrations VALUES (1, 1700000000000), (2, 1700000000000), (3, 1700000000000);
INSERT INTO uia_tokens (token, uses_allowed, taken, held, expires, revoked, label, meta, created, created_by)
	VALUES ('invite', 3, 3, 1, 9223372036854775807, 0, 'friends', '{"role":"user"}', 1700000000000, '@admin:test');
INSERT INTO uia_uses (session, token, token_id, state, stamp, run, user_id, made, changed)
	SELECT 'register.held', token, id, 1, 1700000600000, 0, '', 1700000000000, 1700000000000 FROM uia_tokens;
INSERT INTO uia_uses (session, token, token_id, state, stamp, run, user_id, made, changed)
	SELECT 'register.pinned', token, id, 2, 1700000001000, 2, '', 1700000000000, 1700000001000 FROM uia_tokens;
INSERT INTO uia_uses (session, token, token_id, state, stamp, run, user_id, made, changed)
	SELECT 'register.spent', token, id, 3, 1700000003000, 2, '@a:test', 1700000000000, 1700000003000 FROM uia_tokens;
INSERT INTO uia_sessions (key, revision, state, run, owner, lease, expires, data)
	VALUES ('register.spent', 2, 3, 2, 'owner', -62135596800000, 1700003600000, x'7365616c6564');
INSERT INTO uia_secrets VALUES (1, x'3031323334353637383961626364656630313233343536373839616263646566', 1700000000000);
INSERT INTO uia_deleted (id, token) VALUES (99, 'gone');
INSERT INTO uia_uses (session, token, token_id, state, stamp, run, user_id, made, changed)
	VALUES ('register.gone', 'gone', 99, 3, 1700000003000, 2, '@gone:test', 1700000000000, 1700000003000);
