-- The cross-signing keys of a user, a JSON object.
ALTER TABLE users ADD COLUMN signing_keys TEXT NOT NULL DEFAULT '{}';
