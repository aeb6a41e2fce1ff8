-- The accounts of package restauth, which are kept beside their homeserver. state: 1
-- active, 2 deactivated, 3 buried: a registration that has made no account and never
-- will, and has no name.
CREATE TABLE IF NOT EXISTS uia_restauth_accounts (
	key       TEXT NOT NULL PRIMARY KEY,
	localpart TEXT UNIQUE,
	hash      TEXT NOT NULL,
	run       INTEGER NOT NULL,
	state     INTEGER NOT NULL,
	created   INTEGER NOT NULL
) WITHOUT ROWID;
