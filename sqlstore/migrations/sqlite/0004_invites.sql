-- Who has created the token of a use, which is who has invited the account. It stands
-- in the use, because the token may be deleted.
ALTER TABLE uia_uses ADD COLUMN invited_by TEXT NOT NULL DEFAULT '';
UPDATE uia_uses SET invited_by = (SELECT t.created_by FROM uia_tokens t WHERE t.id = uia_uses.token_id)
	WHERE token_id IN (SELECT t.id FROM uia_tokens t WHERE t.created_by <> '');
-- Serves the list of the accounts that somebody has invited.
CREATE INDEX IF NOT EXISTS uia_uses_invited ON uia_uses (invited_by, made, session) WHERE user_id <> '' AND invited_by <> '';
-- Finds the use to which an account belongs, among the few of its user. Uses of tokens
-- without a creator are in neither index, and cost a registration nothing.
CREATE INDEX IF NOT EXISTS uia_uses_user ON uia_uses (user_id) WHERE user_id <> '' AND invited_by <> '';

-- Serves the list of the tokens of one creator.
CREATE INDEX IF NOT EXISTS uia_tokens_creator ON uia_tokens (created_by, created, token);
-- Serves the count of those that are live.
CREATE INDEX IF NOT EXISTS uia_tokens_live ON uia_tokens (created_by, expires) WHERE revoked = 0;

-- The creators whose tokens are counted. Whoever makes or revokes several tokens of one
-- creator writes the creator's row first, and so waits for others who do.
CREATE TABLE IF NOT EXISTS uia_creators (
	name TEXT NOT NULL PRIMARY KEY
) WITHOUT ROWID;
