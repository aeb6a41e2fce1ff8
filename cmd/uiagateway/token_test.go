package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// shell returns a function that runs a token command.
func shell(t *testing.T, set ...string) func(args ...string) (int, string, string) {
	file := configured(t, "http://127.0.0.1:1", set...)
	return func(args ...string) (int, string, string) {
		return uiagateway(t, append([]string{"token", args[0], "-config", file}, args[1:]...)...)
	}
}

func TestTokens(t *testing.T) {
	sh := shell(t, "public_url=https://matrix.example.org")
	status, stdout, stderr := sh("create", "-uses", "2", "-label", "for friends", "-expires", "7d", "-token", "friends")
	require.Zero(t, status, stderr)
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	require.Len(t, lines, 2)
	assert.Equal(t, []string{"TOKEN", "USES", "EXPIRES", "(UTC)", "STATE", "FOR", "LABEL", "LINK"}, strings.Fields(lines[0]))
	assert.Contains(t, lines[1], "0 of 2")
	assert.Contains(t, lines[1], time.Now().UTC().AddDate(0, 0, 7).Format("2006-01-02"))
	assert.Contains(t, lines[1], "https://matrix.example.org/register?token=friends")

	status, stdout, stderr = sh("create", "-uses", "0", "-username", "Bob", "-json")
	require.Zero(t, status, stderr)
	var made record
	require.NoError(t, json.Unmarshal([]byte(stdout), &made))
	assert.Nil(t, made.UsesAllowed)
	assert.JSONEq(t, `{"username":"bob"}`, string(made.Meta))
	assert.Equal(t, "https://matrix.example.org/register?token="+made.Token, made.InviteURL)

	status, stdout, stderr = sh("create", "-count", "3")
	require.Zero(t, status, stderr)
	assert.Len(t, strings.Split(strings.TrimSpace(stdout), "\n"), 4)
	status, stdout, _ = sh("list")
	require.Zero(t, status)
	assert.Len(t, strings.Split(strings.TrimSpace(stdout), "\n"), 6)
	assert.Contains(t, stdout, "0 of any")

	status, stdout, stderr = sh("revoke", "friends", "nobodys")
	assert.Equal(t, exitFailed, status)
	assert.Contains(t, stderr, "there is no token nobodys")
	assert.Contains(t, stdout, "revoked")
	_, stdout, _ = sh("list")
	assert.NotContains(t, stdout, "friends")
	_, stdout, _ = sh("list", "-all")
	assert.Contains(t, stdout, "friends")
}

func TestTokensThatCannotBe(t *testing.T) {
	sh := shell(t)
	status, stdout, stderr := sh("list", "-json")
	assert.Equal(t, []any{0, "", ""}, []any{status, stdout, stderr})
	status, stdout, stderr = sh("list")
	assert.Equal(t, []any{0, "", "no tokens\n"}, []any{status, stdout, stderr})
	status, _, stderr = sh("create", "-token", "one")
	require.Zero(t, status, stderr)
	for _, row := range []struct {
		args   []string
		status int
		stderr string
	}{
		{[]string{"create", "-token", "one"}, exitFailed, "there is a token one already"},
		{[]string{"create", "-token", "a b"}, exitUsage, "token"},
		{[]string{"create", "-token", ".."}, exitUsage, "path"},
		{[]string{"create", "-uses", "-1"}, exitUsage, "negative"},
		{[]string{"create", "-count", "0"}, exitUsage, "1 to 1000"},
		{[]string{"create", "-count", "2", "-token", "two"}, exitUsage, "one token"},
		{[]string{"create", "-expires", "soon"}, exitUsage, "soon"},
		{[]string{"create", "-expires", "-1h"}, exitUsage, "has passed"},
		{[]string{"create", "-expires", "2020-01-01"}, exitUsage, "is over"},
		{[]string{"create", "-username", "_bridge"}, exitUsage, "username"},
		{[]string{"create", "-label", strings.Repeat("x", 100_000)}, exitUsage, "abel"},
		{[]string{"revoke"}, exitUsage, "needs the tokens"},
	} {
		status, stdout, stderr := sh(row.args...)
		assert.Equal(t, row.status, status, "%.60q", row.args)
		assert.Contains(t, stderr, row.stderr, "%.60q", row.args)
		assert.Empty(t, stdout, "%.60q", row.args)
	}
	_, stdout, _ = sh("list", "-all", "-json")
	assert.Equal(t, 1, strings.Count(stdout, "\n"))
}

func TestExpiry(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for typed, want := range map[string]time.Time{
		"": {}, "36h": now.Add(36 * time.Hour), "7d": now.AddDate(0, 0, 7), "2026-05-01": time.Date(2026, 5, 2, 0, 0, 0, 0, time.UTC),
	} {
		got, err := expiry(typed, now)
		require.NoError(t, err)
		assert.Equal(t, want, got, typed)
	}
}
