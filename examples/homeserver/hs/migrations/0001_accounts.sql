-- The homeserver's own tables. They stand beside those of package sqlstore, whose
-- names begin with uia_, because a transaction cannot span two databases. The
-- types are ones that SQLite and PostgreSQL share.

CREATE TABLE users (
	localpart     TEXT    NOT NULL PRIMARY KEY,
	-- The session that the account was registered in. The index keeps to one account
	-- for each, whatever else goes wrong. NULL, which it admits any number of times,
	-- if no registration made the account.
	registration  TEXT    UNIQUE,
	password_hash TEXT    NOT NULL, -- argon2id; empty if there is no password
	admin         BOOLEAN NOT NULL,
	created       BIGINT  NOT NULL  -- milliseconds since 1970
);

CREATE TABLE devices (
	localpart    TEXT   NOT NULL REFERENCES users (localpart),
	id           TEXT   NOT NULL,
	name         TEXT   NOT NULL,
	-- Access tokens are as good as passwords and are not stored. They are long and
	-- random, so that a plain hash is enough, and can be looked up.
	token_sha256 TEXT   NOT NULL UNIQUE,
	-- The device's keys for end-to-end encryption, a JSON object. A homeserver from
	-- which one-time keys can be claimed has a row for each of them.
	keys         TEXT   NOT NULL,
	created      BIGINT NOT NULL,
	PRIMARY KEY (localpart, id)
);
