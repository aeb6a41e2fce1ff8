-- What is kept of a deleted token of which uses are left: the id by which they are
-- found. A value may have had several.
CREATE TABLE IF NOT EXISTS uia_deleted (
	id    BIGINT PRIMARY KEY,
	token TEXT COLLATE "C" NOT NULL
);
CREATE INDEX IF NOT EXISTS uia_deleted_token ON uia_deleted (token);
