-- The claims of package gateway: how far each registration at another homeserver has
-- come. state: 1 free, 2 reserved, 3 sent, 4 made, 5 buried. A name belongs to one
-- registration that is under way.
CREATE TABLE IF NOT EXISTS uia_gateway_claims (
	key       TEXT COLLATE "C" PRIMARY KEY,
	localpart TEXT COLLATE "C" NOT NULL,
	run       BIGINT NOT NULL,
	state     SMALLINT NOT NULL,
	sealed    BYTEA,
	changed   BIGINT NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS uia_gateway_claims_open ON uia_gateway_claims (localpart) WHERE state IN (2, 3);
CREATE INDEX IF NOT EXISTS uia_gateway_claims_changed ON uia_gateway_claims (state, changed, key);
CREATE INDEX IF NOT EXISTS uia_gateway_claims_name ON uia_gateway_claims (localpart, state);
