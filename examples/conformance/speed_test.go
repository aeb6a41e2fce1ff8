package conformance

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia/uiatest"
)

// bucket lets a burst of actions through, and then one at a time.
type bucket struct {
	every time.Duration
	burst int
}

// synapses are the limits that Synapse has by default, by what is limited.
var synapses = map[string]bucket{
	"account":  {time.Second * 100 / 17, 3},
	"validity": {10 * time.Second, 5},
	"login":    {time.Second * 1000 / 3, 5},
}

// limits limits what comes from an address as Synapse does. An account that was made
// counts, and while there have been too many no request to make one gets through.
type limits struct {
	next  http.Handler
	alike bool // all come from one address, as they do behind a proxy

	mu    sync.Mutex
	full  map[string]time.Time // when a bucket is empty again
	users map[string]bool      // the user IDs that answers were about
}

func (l *limits) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	what := ""
	switch {
	case strings.HasSuffix(r.URL.Path, "/validity"):
		what = "validity"
	case strings.HasSuffix(r.URL.Path, "/login") && r.Method == http.MethodPost:
		what = "login"
	case strings.HasSuffix(r.URL.Path, "/register") && !strings.Contains(r.URL.Path, "_synapse"):
		what = "account"
	default:
		l.next.ServeHTTP(w, r)
		return
	}
	key := what
	if !l.alike {
		key += netip.MustParseAddrPort(r.RemoteAddr).Addr().String()
	}
	if wait := l.count(key, synapses[what], what != "account"); wait > 0 {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusTooManyRequests)
		_ = json.NewEncoder(w).Encode(map[string]any{"errcode": "M_LIMIT_EXCEEDED", "error": "Too Many Requests", "retry_after_ms": wait.Milliseconds() + 1})
		return
	}
	if what != "account" {
		l.next.ServeHTTP(w, r)
		return
	}
	answer := httptest.NewRecorder()
	l.next.ServeHTTP(answer, r)
	if answer.Code == http.StatusOK {
		l.count(key, synapses[what], true)
		l.note(answer.Body.Bytes())
	}
	maps.Copy(w.Header(), answer.Header())
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

// note takes note of an account that was made.
func (l *limits) note(body []byte) {
	var made struct {
		UserID string `json:"user_id"`
	}
	if json.Unmarshal(body, &made) == nil && made.UserID != "" {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.users[made.UserID] = true
	}
}

// accounts is how many accounts were made.
func (l *limits) accounts() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.users)
}

// count returns how long to wait. If that is not at all, and act is true, it counts.
func (l *limits) count(key string, b bucket, act bool) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	full := l.full[key]
	if full.Before(now) {
		full = now
	}
	if wait := full.Add(b.every).Sub(now) - time.Duration(b.burst)*b.every; wait > 0 {
		return wait
	}
	if act {
		l.full[key] = full.Add(b.every)
	}
	return 0
}

// accountsOf says how many accounts a case makes, those that it borrows included if it
// is the first to. Nothing but these makes more than one.
var accountsOf = map[string]int{
	"token/a-limit-of-two-is-two":                  2,
	"devices/another-users-password-does-not-pass": 2,
	"devices/another-users-session-does-not-pass":  2,
	"devices/another-users-device-has-its-name":    2,
	"races/two-uses-two-accounts":                  2,
	"races/distinct-sessions-do-not-disturb":       3,
	"races/one-unlimited-token-for-many":           3,
}

// Synapse's limits hold up nothing where each case has an address of its own, and
// elsewhere nothing but what they are about: a run from one address, for which an account
// may be made every six seconds, takes less than five minutes. What decides is how many
// accounts the cases make: -v shows it.
func TestSynapsesLimits(t *testing.T) {
	for name, test := range map[string]struct {
		alike bool
		opts  uiatest.Options
		most  time.Duration
	}{
		"own addresses":             {false, uiatest.Options{Rate: 20}, 2 * time.Minute},
		"one address":               {true, uiatest.Options{Rate: 20}, 5 * time.Minute},
		"one address, shuffled":     {true, uiatest.Options{Rate: 20, Shuffle: 12}, 5 * time.Minute},
		"one address, side by side": {true, uiatest.Options{Rate: 20, Parallel: 4}, 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := homeserver(t, open(t, "memory"), flows["TD"], -1)
				server.NewToken, server.Lacks = nil, []string{"signup"} // Synapse has no such page
				limited := &limits{next: server.Handler, alike: test.alike, full: make(map[string]time.Time), users: make(map[string]bool)}
				server.Handler = limited
				begun := time.Now()
				before := 0
				test.opts.Progress = func(_, _ int, r uiatest.Report) {
					if now := limited.accounts(); now > before && !test.alike { // elsewhere some wait while others make theirs
						t.Logf("%3d  %s", now-before, r.Name)
						require.LessOrEqual(t, now-before, max(accountsOf[r.Name], 1), r.Name)
						before = now
					}
				}
				reports, err := uiatest.Run(t.Context(), server, &test.opts)
				took := time.Since(begun)
				require.NoError(t, err)
				for _, r := range reports {
					if r.Area == "limits" { // the token stage has none in Synapse
						continue
					}
					require.NotEqual(t, uiatest.Failed, r.Outcome, "%s: %s", r.Name, r.Explain())
					races := r.Area == "races" || r.Name == "uia/sessions-differ"
					if !test.alike || !races && test.opts.Parallel < 2 { // elsewhere many requests at once are more than the limits allow
						require.NotContains(t, r.Reason, "limits how many", r.Name)
					}
					require.NotRegexp(t, "429|asks to wait", r.Reason, r.Name)
				}
				t.Logf("%d cases in %v, with %d accounts", len(reports), took, limited.accounts())
				require.Less(t, took, test.most)
				require.InDelta(t, uiatest.Accounts, limited.accounts(), 8, "the accounts that uiacheck -h speaks of")
			})
		})
	}
}
