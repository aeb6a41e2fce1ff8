-- The accounts of package restauth, which are kept beside their homeserver. state: 1
-- active, 2 deactivated, 3 buried: a registration that has made no account and never
-- will, and has no name.
CREATE TABLE IF NOT EXISTS uia_restauth_accounts (
	key       TEXT COLLATE "C" PRIMARY KEY,
	localpart TEXT COLLATE "C" UNIQUE,
	hash      TEXT NOT NULL,
	run       BIGINT NOT NULL,
	state     SMALLINT NOT NULL,
	created   BIGINT NOT NULL
);
