package main

import (
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/matrix-uia/uia/gateway"
	"github.com/matrix-uia/uia/register"
)

// config is what the configuration says.
type config struct {
	listen, monitor string
	upstream        *url.URL
	upstreamType    string
	upstreamTimeout time.Duration
	serverName      string
	publicURL       string
	inviteLink      string
	sharedSecret    string
	token           string // of the upstream
	open            bool
	database        string
	admins          []string
	trusted         []netip.Prefix
	usernames       register.UsernameRules
	minPassword     int
	guesses         int
	redis           string
	signup          bool
	title           string
	logo            []byte
	terms           string
	logFormat       string
	logLevel        slog.Level
	stopTimeout     time.Duration
}

// setting is one key of the configuration file.
type setting struct {
	// key is where it stands in the file: "usernames.reserved" is reserved in the
	// mapping usernames.
	key string
	// doc is what -generate-config writes above the key.
	doc string
	// preset is the YAML that a missing key stands for, unless it is required. Empty means
	// the zero value.
	preset string
	// example is what -generate-config writes, commented out, where there is no preset.
	example string
	// basic says that -generate-config writes the key, not commented out.
	basic bool
	// required says that the key cannot be missing.
	required bool
	// list says that the value is a list of texts.
	list bool
	// secret says that the value can also come from the file that KEY_file names, or from
	// the environment; and that no message shows it.
	secret bool
	// read reads the value. It reports mistakes without the name of the key.
	read func(*config, *yaml.Node) error
}

// settings are all keys, in the order in which they are written.
var settings = []setting{
	{
		key: "listen", basic: true, required: true, preset: "127.0.0.1:8009",
		doc:  "Where clients, or the proxy that ends TLS for them, reach the gateway.",
		read: text(func(c *config) *string { return &c.listen }, isAddress),
	},
	{
		key: "upstream", basic: true, required: true, preset: "http://127.0.0.1:8008",
		doc:  "Where the gateway reaches the homeserver. Nobody else should.",
		read: parsed(func(c *config) **url.URL { return &c.upstream }, parseUpstream),
	},
	{
		key: "server_name", basic: true, required: true,
		doc:  "The homeserver's name, in which user IDs end: example.org for @alice:example.org.",
		read: text(func(c *config) *string { return &c.serverName }, isServerName),
	},
	{
		key: "registration_shared_secret", basic: true, secret: true,
		doc: "The homeserver's own setting of this name. Its registration can then be switched off, and should be:\n" +
			"enable_registration: false at Synapse, registration_disabled: true at Dendrite.",
		read: text(func(c *config) *string { return &c.sharedSecret }, isNotEmpty),
	},
	{
		key: "database", basic: true, required: true, secret: true, preset: "gateway.db",
		doc: "The tokens and what else the gateway has to remember: the file of a SQLite database, or for several\n" +
			"gateways a PostgreSQL database, postgres://user@host/name.",
		read: text(func(c *config) *string { return &c.database }, isNotEmpty),
	},
	{
		key: "admins", basic: true, list: true,
		doc: "Users of the homeserver who may manage tokens, with its tools for administrators: \"@alice:example.org\".\n" +
			"The quotation marks are needed.",
		read: list(func(c *config) *[]string { return &c.admins }, parseUserID),
	},
	{
		key: "upstream_type", preset: "other",
		doc: "synapse, dendrite or other. At the first two, administrators of the homeserver may manage tokens without\n" +
			"being listed in admins.",
		read: text(func(c *config) *string { return &c.upstreamType }, isOneOf("synapse", "dendrite", "other")),
	},
	{
		key: "public_url", example: "https://matrix.example.org",
		doc:  "The URL by which clients reach the gateway. With it the gateway finds out whether they do, or go past it.",
		read: text(func(c *config) *string { return &c.publicURL }, isPublicURL),
	},
	{
		key: "invite_link", example: "https://app.element.io/#/register?token={token}",
		doc:  "The link that is handed out with a token. Without it, it is that of the page at public_url.",
		read: text(func(c *config) *string { return &c.inviteLink }, isInviteLink),
	},
	{
		key: "monitor", preset: "127.0.0.1:9009",
		doc: "Where monitoring finds /metrics (Prometheus) and /healthz. Not for the public. \"\" switches both off.",
		read: text(func(c *config) *string { return &c.monitor }, func(s string) error {
			if s == "" {
				return nil
			}
			return isAddress(s)
		}),
	},
	{
		key: "trusted_proxies", preset: `[127.0.0.1, "::1"]`, list: true,
		doc: "Proxies in front of the gateway, whose X-Forwarded-For is believed: addresses, or networks such as\n" +
			"10.0.0.0/8. Wrong guesses are counted for each address that it tells.",
		read: list(func(c *config) *[]netip.Prefix { return &c.trusted }, parseProxy),
	},
	{
		key: "registration_token", secret: true, example: "a-long-token-that-nobody-else-knows",
		doc: "In place of registration_shared_secret: a registration token of the homeserver with any number of uses,\n" +
			"for homeservers that have no such secret. Their registration is on then, and requires a token.",
		read: text(func(c *config) *string { return &c.token }, isTokenValue),
	},
	{
		key: "registration_open", preset: "false",
		doc:  "In place of both: the homeserver registers whoever reaches it, and nobody but the gateway does.",
		read: parsed(func(c *config) *bool { return &c.open }, strconv.ParseBool),
	},
	{
		key: "upstream_timeout", preset: "5s",
		doc:  "How long the homeserver may take to make an account. After a crash clients wait for four times as long.",
		read: parsed(func(c *config) *time.Duration { return &c.upstreamTimeout }, duration(time.Second, time.Minute)),
	},
	{
		key: "usernames.reserved", preset: yamlList(gateway.DefaultUsernames().Reserved), list: true,
		doc:  "Names that nobody gets, in any disguise: 4dm1n is admin.",
		read: list(func(c *config) *[]string { return &c.usernames.Reserved }, asItIs),
	},
	{
		key: "usernames.bad", preset: "[]", list: true,
		doc:  "What no name may contain, in any disguise.",
		read: list(func(c *config) *[]string { return &c.usernames.Bad }, asItIs),
	},
	{
		key: "usernames.except", preset: "[]", list: true,
		doc:  "Words in which that does not count.",
		read: list(func(c *config) *[]string { return &c.usernames.Except }, asItIs),
	},
	{
		key: "usernames.allow", preset: "[]", list: true,
		doc:  "Regular expressions of which one has to match the whole name.",
		read: list(func(c *config) *[]*regexp.Regexp { return &c.usernames.Allow }, regexp.Compile),
	},
	{
		key: "usernames.deny", preset: "[]", list: true,
		doc:  "Regular expressions that must not match, anywhere in the name.",
		read: list(func(c *config) *[]*regexp.Regexp { return &c.usernames.Deny }, regexp.Compile),
	},
	{
		key: "usernames.min_length", preset: "0",
		doc:  "How short a name may be. 0 for no bound.",
		read: parsed(func(c *config) *int { return &c.usernames.MinLength }, number(0, 255)),
	},
	{
		key: "usernames.max_length", preset: "0",
		doc:  "How long a name may be. 0 for no bound.",
		read: parsed(func(c *config) *int { return &c.usernames.MaxLength }, number(0, 255)),
	},
	{
		key: "usernames.plain_ends", preset: strconv.FormatBool(gateway.DefaultUsernames().PlainEnds),
		doc:  "Whether names with punctuation at an end, or twice in a row, are refused.",
		read: parsed(func(c *config) *bool { return &c.usernames.PlainEnds }, strconv.ParseBool),
	},
	{
		key: "password_min_length", preset: "8",
		doc: "How short a password may be. Synapse does not apply its own rules to accounts that are made by the\n" +
			"shared secret.",
		read: parsed(func(c *config) *int { return &c.minPassword }, number(1, 128)),
	},
	{
		key: "guesses", preset: "60",
		doc:  "How many wrong tokens somebody may send at once. One more is forgiven every 10 seconds.",
		read: parsed(func(c *config) *int { return &c.guesses }, number(1, 1_000_000)),
	},
	{
		key: "redis", secret: true, example: "redis://127.0.0.1:6379/0",
		doc:  "Where several gateways count wrong guesses together. Without it each counts its own.",
		read: text(func(c *config) *string { return &c.redis }, isRedis),
	},
	{
		key: "signup", preset: "true",
		doc:  "Whether there is a page at /register, on which invite links end.",
		read: parsed(func(c *config) *bool { return &c.signup }, strconv.ParseBool),
	},
	{
		key: "title", example: "Matrix at example.org",
		doc:  "What stands at the top of the pages that people see.",
		read: text(func(c *config) *string { return &c.title }),
	},
	{
		key: "logo", example: "logo.svg",
		doc:  "The file of a picture at the top of these pages.",
		read: parsed(func(c *config) *[]byte { return &c.logo }, os.ReadFile),
	},
	{
		key: "terms", example: "https://example.org/terms",
		doc:  "The address of the homeserver's terms, for a link at the bottom of these pages.",
		read: text(func(c *config) *string { return &c.terms }, isPublicURL),
	},
	{
		key: "log_format", preset: "text",
		doc:  "text or json. Logs go to the standard error stream, and have neither tokens nor passwords.",
		read: text(func(c *config) *string { return &c.logFormat }, isOneOf("text", "json")),
	},
	{
		key: "log_level", preset: "info",
		doc: "debug, info, warn or error.",
		read: parsed(func(c *config) *slog.Level { return &c.logLevel }, func(s string) (l slog.Level, err error) {
			return l, l.UnmarshalText([]byte(s))
		}),
	},
	{
		key: "stop_timeout", preset: "20s",
		doc:  "How long requests that are under way may go on when the gateway is told to stop: a sync waits for long.",
		read: parsed(func(c *config) *time.Duration { return &c.stopTimeout }, duration(0, 10*time.Minute)),
	},
}
