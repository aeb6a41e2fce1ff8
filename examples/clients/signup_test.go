package clients

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia/internal/testenv"
)

var field = regexp.MustCompile(`<input [^>]*name="([^"]*)"[^>]*value="([^"]*)"`)

// A newcomer opens the link, as a browser without scripts does, and then logs in with a
// real client.
func TestMatrixJSSDKAfterTheSignupPage(t *testing.T) {
	h := newHomeserver(t, flowTD, map[string]int64{"once": 1})
	node, err := findNode()
	if err != nil {
		testenv.Need(t, fmt.Errorf("no Node.js %d with matrix-js-sdk: %w", minNode, err))
	}
	link := h.URL + "/register?token=once"
	page := func(res *http.Response, err error) string {
		t.Helper()
		require.NoError(t, err)
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, 200, res.StatusCode, "%s", body)
		return string(body)
	}
	form := url.Values{}
	for _, m := range field.FindAllStringSubmatch(page(http.Get(link)), -1) {
		form.Set(m[1], html.UnescapeString(m[2]))
	}
	form.Set("username", "Newcomer ") // as the keyboard of a phone has it
	form.Set("password", "correct horse battery staple")
	require.Contains(t, page(http.PostForm(link, form)), "@newcomer:localhost")

	in, err := json.Marshal(map[string]string{"baseUrl": h.URL, "user": "newcomer", "password": form.Get("password")})
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), node, "login.mjs")
	cmd.Stdin = bytes.NewReader(in)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s%s", out, &stderr)
	require.Equal(t, "@newcomer:localhost\n", string(out))
	pending, completed := h.uses(t, "once")
	require.Equal(t, []int64{0, 1}, []int64{pending, completed})
}
