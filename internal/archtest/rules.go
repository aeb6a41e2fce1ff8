package archtest

// module is the path of the root module. In this file its packages are written without
// it, and the root package as ".".
const module = "github.com/matrix-uia/uia"

const (
	languages      = "golang.org/x/text/language"
	spec           = "github.com/matrix-org/gomatrixserverlib/spec"
	argon2         = "golang.org/x/crypto/argon2"
	aead           = "golang.org/x/crypto/chacha20poly1305"
	testifyAssert  = "github.com/stretchr/testify/assert"
	testifyRequire = "github.com/stretchr/testify/require"
)

// imports says for each package of the root module what it imports beyond the standard
// library, its tests left out. The root imports leaves only; everything else stands on
// the root, and stores stand on nothing but it.
var imports = map[string][]string{
	// Leaves.
	"catalog":            {"form", languages},
	"form":               {},
	"internal/ask":       {},
	"internal/canonical": {},
	"internal/flow":      {},
	"internal/forwarded": {},
	"internal/keyring":   {},
	"internal/kitrun":    {},
	"internal/mistake":   {},
	"internal/observe":   {},
	"internal/panics":    {},
	"internal/recent":    {},
	"internal/record":    {"internal/canonical", "internal/seal"},
	"internal/seal":      {aead},
	"internal/waiting":   {},
	"internal/wire":      {spec},
	"passwords":          {argon2},

	".": {"form", "internal/canonical", "internal/flow", "internal/forwarded", "internal/keyring", "internal/mistake", "internal/observe", "internal/panics", "internal/recent", "internal/record", "internal/seal", "internal/waiting", "internal/wire", spec},

	// Stores and limiters.
	"limit":    {"."},
	"memstore": {"."},
	"sqlstore": {"."},

	// Handlers and stages.
	"internal/api":       {".", "internal/keyring", "internal/wire", spec},
	"fallback":           {".", "catalog", "form", "internal/stageform", "internal/wire", spec},
	"internal/stageform": {".", "form", "internal/panics", "internal/wire", spec},
	"stages":             {".", "catalog", "fallback", "form", "internal/keyring", "internal/mistake", "internal/seal", "internal/wire", "register", spec},
	"invites":            {".", "catalog", "fallback", "form", "internal/api", "internal/mistake", "internal/observe", "internal/wire", "register", spec},
	"signup":             {".", "catalog", "fallback", "form", "internal/keyring", "internal/mistake", "internal/stageform", "internal/wire", "register", spec},
	"register":           {".", "form", "internal/mistake", "internal/wire", spec},
	"admin":              {".", "internal/api", "internal/mistake", "internal/observe", "internal/wire", "register", spec},
	"gateway":            {".", "admin", "internal/ask", "internal/forwarded", "internal/keyring", "internal/wire", "register", spec},

	"gateway/sqlclaims": {"gateway", "sqlstore"},

	"restauth":             {".", "form", "gateway", "internal/ask", "internal/canonical", "internal/forwarded", "internal/keyring", "internal/wire", "limit", "passwords", "register", "stages", spec},
	"restauth/sqlaccounts": {"restauth", "sqlstore"},

	// Kits and commands.
	"storetest":            {".", "internal/kitrun"},
	"gateway/claimtest":    {"gateway", "internal/kitrun"},
	"restauth/accounttest": {"restauth", "internal/kitrun"},
	"uiatest":              {}, // a homeserver may be in any language
	"cmd/uiacheck":         {"uiatest"},

	// For tests alone.
	"internal/admintest":    {".", "admin", spec, testifyAssert, testifyRequire},
	"internal/archtest":     {},
	"internal/dendritetest": {"internal/testenv"},
	"internal/simtest":      {".", "memstore", spec},
	"internal/testenv":      {},
}

// maxKnot is how many files of the root package may be tied together, so that each can be
// reached from each other.
const maxKnot = 3
