package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// written writes a file with these permissions.
func written(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "gateway.yaml")
	require.NoError(t, os.WriteFile(name, []byte(text), mode))
	require.NoError(t, os.Chmod(name, mode)) // whatever the umask
	return name
}

const least = `listen: 127.0.0.1:8009
upstream: http://127.0.0.1:8008
server_name: example.org
registration_shared_secret: sesame
database: gateway.db
admins: ["@alice:example.org"]
`

func TestLeast(t *testing.T) {
	c, warnings, err := load(written(t, least, 0o600))
	require.NoError(t, err)
	assert.Empty(t, warnings)
	assert.Equal(t, "127.0.0.1:8009", c.listen)
	assert.Equal(t, "http://127.0.0.1:8008", c.upstream.String())
	assert.Equal(t, []string{"@alice:example.org"}, c.admins)
	assert.Equal(t, 5*time.Second, c.upstreamTimeout)
	assert.Len(t, c.trusted, 2)
	assert.True(t, c.usernames.PlainEnds)
	assert.Contains(t, c.usernames.Reserved, "admin")
	assert.True(t, c.signup)
}

// What the command writes is what holds without it.
func TestGenerated(t *testing.T) {
	name := filepath.Join(t.TempDir(), "new.yaml")
	status, stdout, stderr := uiagateway(t, "-generate-config", "-config", name)
	require.Zero(t, status, stderr)
	assert.Contains(t, stdout, "server_name")
	assert.Contains(t, stdout, "exactly one of registration_shared_secret")
	info, err := os.Stat(name)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	before, err := os.ReadFile(name)
	require.NoError(t, err)
	status, _, stderr = uiagateway(t, "-generate-config", "-config", name, "-set", "server_name=other.example")
	assert.Equal(t, exitFailed, status)
	assert.Contains(t, stderr, "not overwritten")
	after, err := os.ReadFile(name)
	require.NoError(t, err)
	assert.Equal(t, string(before), string(after))

	given := []string{
		"-set", "server_name=example.org", "-set", "registration_shared_secret=sesame: yes #1", "-set", "admins=@alice:example.org, @bob:example.org",
	}
	name = filepath.Join(t.TempDir(), "filled.yaml")
	status, stdout, stderr = uiagateway(t, append([]string{"-generate-config", "-config", name}, given...)...)
	require.Zero(t, status, stderr)
	assert.NotContains(t, stdout, "filled in:")
	filled, _, err := load(name)
	require.NoError(t, err)
	assert.Equal(t, "sesame: yes #1", filled.sharedSecret)
	assert.Equal(t, []string{"@alice:example.org", "@bob:example.org"}, filled.admins)

	// Without the marks of the keys that have a preset nothing changes.
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	var open strings.Builder
	for line := range strings.Lines(string(text)) {
		for _, s := range settings {
			key := s.key[strings.LastIndex(s.key, ".")+1:]
			if mark := "# " + key + ": "; s.preset != "" && strings.HasPrefix(strings.TrimSpace(line), mark) {
				line = strings.Replace(line, "# ", "", 1)
			}
		}
		open.WriteString(line)
	}
	assert.NotEqual(t, string(text), open.String())
	same, _, err := load(written(t, open.String(), 0o600))
	require.NoError(t, err)
	assert.Equal(t, filled, same)
}

// Every mistake is told at once, with its line, and none shows a secret.
func TestMistakes(t *testing.T) {
	for _, row := range []struct {
		name, text string
		want       []string
	}{
		{"an empty file", "", []string{
			"server_name is missing", "listen is missing", "upstream is missing", "database is missing",
		}},
		{"no YAML", "listen: [", []string{"line 1:"}},
		{"a list", "- a\n", []string{"line 1: the file has to be a mapping"}},
		{"two documents", least + "---\n" + least, []string{"more than one document"}},
		{"unknown keys", least + "homeserver: x\nserver-name: y\nusernames:\n  reservd: []\n", []string{
			"line 7: there is no key homeserver", "line 8: there is no key server-name: is it server_name?", "line 10: there is no key usernames.reservd",
		}},
		{"a key twice", least + "listen: 127.0.0.1:1\n", []string{"line 7: listen is there twice"}},
		{"values", strings.Replace(least, "127.0.0.1:8009", "8009", 1) + `upstream_timeout: soon
guesses: -1
log_level: loud
log_format: xml
usernames: {min_length: many, allow: ["("]}
trusted_proxies: [10.0.0.0/8, nonsense]
public_url: example.org
invite_link: https://example.org/
signup: perhaps
logo: /nowhere/logo.svg
registration_token: "a b"
admins_: 1
`, []string{
			"line 1: listen:", "line 7: upstream_timeout:", "line 8: guesses:", "line 9: log_level:", "line 10: log_format:",
			"line 11: usernames.min_length:", "line 11: usernames.allow:", "line 12: trusted_proxies:", "line 13: public_url:",
			"line 14: invite_link:", "line 15: signup:", "line 16: logo:", "line 17: registration_token:", "line 18: there is no key admins_: is it admins?",
		}},
		{"no value", strings.Replace(least, "example.org\n", "\n", 1), []string{"line 3: server_name: has no value"}},
		{"a mapping", strings.Replace(least, "gateway.db", "{a: b}", 1), []string{"line 5: database: has to be a single value"}},
		{"no list", strings.Replace(least, `["@alice:example.org"]`, `"@alice:example.org"`, 1), []string{"line 6: admins: has to be a list"}},
		{"no user ID", strings.Replace(least, "@alice:example.org", "alice", 1), []string{"line 6: admins:"}},
		{"somebody else's user", strings.Replace(least, "@alice:example.org", "@alice:elsewhere.org", 1), []string{"admins: @alice:elsewhere.org is no user of example.org"}},
		{"no way to make accounts", strings.Replace(least, "registration_shared_secret: sesame\n", "", 1), []string{"exactly one of"}},
		{"two ways", least + "registration_open: true\n", []string{"exactly one of"}},
		{"a secret twice", least + "registration_shared_secret_file: /etc/hostname\n", []string{"line 4: registration_shared_secret is there more than once"}},
		{"a file that is not there", strings.Replace(least, "secret: sesame", "secret_file: /nowhere/secret", 1), []string{"line 4: registration_shared_secret_file: open /nowhere/secret"}},
		{"an empty secret", strings.Replace(least, "sesame", `""`, 1), []string{"line 4: registration_shared_secret: is empty"}},
		{"a wrong Redis", least + "redis: http://:hunter2@redis/\n", []string{"line 7: redis:"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			name := written(t, row.text, 0o600)
			_, _, err := load(name)
			require.Error(t, err)
			for _, want := range row.want {
				assert.ErrorContains(t, err, want)
			}
			status, stdout, stderr := uiagateway(t, "-config", name)
			assert.Equal(t, exitUsage, status)
			assert.Empty(t, stdout)
			assert.Contains(t, stderr, name)
			for _, secret := range []string{"sesame", "hunter2"} {
				assert.NotContains(t, stderr, secret)
			}
		})
	}
}

func TestSecretsFromElsewhere(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte("  from a file \n"), 0o600))
	without := strings.Replace(least, "registration_shared_secret: sesame\n", "", 1)

	c, warnings, err := load(written(t, without+"registration_shared_secret_file: "+file+"\n", 0o644))
	require.NoError(t, err)
	assert.Equal(t, "from a file", c.sharedSecret)
	assert.Empty(t, warnings, "no secret is in it")
	_, warnings, err = load(written(t, strings.Replace(without, "gateway.db", "postgres://uia:hunter2@localhost/uia", 1)+"registration_shared_secret_file: "+file+"\n", 0o644))
	require.NoError(t, err)
	assert.Len(t, warnings, 1, "the password of the database is")

	require.NoError(t, os.Chmod(file, 0o644))
	_, warnings, err = load(written(t, without+"registration_shared_secret_file: "+file+"\n", 0o600))
	require.NoError(t, err)
	require.Len(t, warnings, 1)
	assert.Contains(t, warnings[0], "chmod 600 "+file)

	_, warnings, err = load(written(t, least, 0o644))
	require.NoError(t, err)
	require.Len(t, warnings, 1)
	assert.Contains(t, warnings[0], "chmod 600")

	t.Setenv("UIAGATEWAY_REGISTRATION_SHARED_SECRET", "from the environment")
	c, _, err = load(written(t, without, 0o600))
	require.NoError(t, err)
	assert.Equal(t, "from the environment", c.sharedSecret)
	_, _, err = load(written(t, least, 0o600))
	assert.ErrorContains(t, err, "more than once")
}

func TestUsage(t *testing.T) {
	for _, row := range []struct {
		args   []string
		status int
		stderr string
	}{
		{[]string{"-h"}, 0, "uiagateway token create|list|revoke"},
		{[]string{"-nonsense"}, exitUsage, "not defined"},
		{[]string{"serve"}, exitUsage, `"serve" is no command`},
		{[]string{"-set", "listen=:1"}, exitUsage, "-set is for -generate-config"},
		{[]string{"-generate-config", "-set", "nonsense"}, exitUsage, "is not KEY=VALUE"},
		{[]string{"-generate-config", "-config", "/nowhere/x.yaml", "-set", "lisen=:1"}, exitUsage, "there is no key lisen"},
		{[]string{"-generate-config", "-config", "/nowhere/x.yaml"}, exitFailed, "/nowhere/x.yaml"},
		{[]string{"-config", "/nowhere/gateway.yaml"}, exitUsage, "uiagateway -generate-config -config /nowhere/gateway.yaml"},
		{[]string{"token"}, exitUsage, "create"},
		{[]string{"token", "-h"}, 0, "revoke"},
		{[]string{"token", "make"}, exitUsage, `no command "make"`},
		{[]string{"token", "list", "x"}, exitUsage, `no argument "x"`},
		{[]string{"token", "list", "-h"}, 0, "-all"},
		{[]string{"token", "create", "-uses", "many"}, exitUsage, "invalid value"},
	} {
		status, _, stderr := uiagateway(t, row.args...)
		assert.Equal(t, row.status, status, "%q", row.args)
		assert.Contains(t, stderr, row.stderr, "%q", row.args)
	}
}
