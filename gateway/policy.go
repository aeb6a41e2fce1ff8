package gateway

import "github.com/matrix-uia/uia/register"

// DefaultUsernames are the rules for new usernames that suit most homeservers: names that
// users take for the operator's are reserved, and a name is easily told from others.
// Which words are offensive the operator has to decide.
func DefaultUsernames() register.UsernameRules {
	return register.UsernameRules{
		Reserved: []string{
			"abuse", "admin", "administrator", "help", "homeserver", "hostmaster", "info", "mail", "matrix", "moderator",
			"noreply", "official", "operator", "postmaster", "registration", "root", "security", "server", "staff",
			"support", "system", "webmaster",
		},
		PlainEnds: true,
	}
}
