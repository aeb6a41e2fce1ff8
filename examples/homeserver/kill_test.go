package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia/examples/homeserver/hs"
	"github.com/matrix-uia/uia/examples/internal/testdb"
)

// asHomeserver is the environment variable that makes this program the homeserver
// instead of its tests.
const asHomeserver = "UIA_TEST_AS_HOMESERVER"

// process is a homeserver in a process of its own.
type process struct {
	cmd *exec.Cmd
	url string
}

// startProcess starts a homeserver with the tokens "fifty" and "once", and without
// a limit on failures.
func startProcess(t *testing.T, db string) *process {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0],
		"-listen", "127.0.0.1:0", "-db", db, "-token", "fifty:50", "-token", "once:1", "-failures", "0")
	cmd.Env = append(os.Environ(), asHomeserver+"=1")
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	p := &process{cmd: cmd}
	t.Cleanup(p.kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	p.url, _, _ = strings.Cut(strings.Fields(line)[2], "/register") // of the link
	return p
}

// kill is kill -9.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait() // that it was killed
}

// answer is what a client got; Status 0 means nothing, because the server is gone.
type answer struct {
	Status      int
	Session     string
	Completed   []string
	ErrCode     string
	UserID      string `json:"user_id"`
	AccessToken string `json:"access_token"`
}

// post sends a stage of a registration; without one it opens a session.
func (p *process) post(user, stage, token, session string) (a answer) {
	body := map[string]any{"username": user, "password": "wonderland"}
	if stage != "" {
		body["auth"] = map[string]string{"type": stage, "token": token, "session": session}
	}
	text, _ := json.Marshal(body) // strings always encode
	res, err := http.Post(p.url+"/_matrix/client/v3/register", "application/json", bytes.NewReader(text))
	if err != nil {
		return answer{}
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&a); err != nil {
		return answer{}
	}
	a.Status = res.StatusCode
	return a
}

// onDatabases runs a test on the databases that outlive a process.
func onDatabases(t *testing.T, test func(t *testing.T, db string)) {
	t.Run("SQLite", func(t *testing.T) { test(t, filepath.Join(t.TempDir(), "homeserver.db")) })
	t.Run("PostgreSQL", func(t *testing.T) { test(t, testdb.PostgreSQL(t)) })
}

// Each leg of a registration is served by a process of its own, and each process
// but the last is killed once it has answered. A client that has its account gets
// it again from the last one.
func TestKilledBetweenLegs(t *testing.T) {
	onDatabases(t, func(t *testing.T, db string) {
		p := startProcess(t, db)
		session := p.post("alice", "", "", "").Session
		require.NotEmpty(t, session)
		p.kill()
		p = startProcess(t, db)
		require.Equal(t, []string{typeToken}, p.post("alice", typeToken, "once", session).Completed)
		p.kill()
		p = startProcess(t, db)
		require.Equal(t, "M_UNAUTHORIZED", p.post("bob", typeToken, "once", "").ErrCode, "alice has the only use")
		made := p.post("alice", typeDummy, "", session)
		require.Equal(t, "@alice:localhost", made.UserID)
		p.kill()
		p = startProcess(t, db)
		require.Equal(t, made, p.post("alice", typeDummy, "", session))
	})
}

// A homeserver is killed while many register. Whatever each of them was told,
// there is an account for every use that is spent, and the other way round; and
// who was told that the account was made has it.
func TestKilledUnderLoad(t *testing.T) {
	onDatabases(t, func(t *testing.T, db string) {
		p := startProcess(t, db)
		var told sync.Map // by user: the answer
		var made atomic.Int64
		enough := make(chan struct{})
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				for n := 0; ; n++ {
					user := fmt.Sprintf("user%d-%d", i, n)
					opened := p.post(user, typeToken, "fifty", "")
					if opened.Session == "" {
						return // the server is gone
					}
					last := p.post(user, typeDummy, "", opened.Session)
					if last.Status != http.StatusOK {
						return
					}
					told.Store(user, last)
					if made.Add(1) == 12 {
						close(enough)
					}
				}
			})
		}
		gone := make(chan struct{})
		go func() {
			all.Wait()
			close(gone)
		}()
		select {
		case <-enough:
		case <-gone:
			require.Fail(t, "registrations fail")
		}
		p.kill()
		<-gone

		storage, err := hs.Open(t.Context(), db)
		require.NoError(t, err)
		defer storage.Close()
		// PostgreSQL may still be at a COMMIT that it has been sent: it is counted until
		// both figures agree.
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			token, err := storage.Tokens.Token(t.Context(), "fifty", time.Now())
			require.NoError(c, err)
			accounts := countAccounts(t, c, storage, &told)
			t.Logf("%d clients have been told of %d accounts; %d uses are pending", made.Load(), accounts, token.Pending)
			require.Equal(c, token.Completed, accounts)
			require.GreaterOrEqual(c, accounts, made.Load())
			require.LessOrEqual(c, token.Completed+token.Pending, int64(50))
		}, 10*time.Second, 100*time.Millisecond)

		p = startProcess(t, db)
		told.Range(func(_, a any) bool {
			req, err := http.NewRequestWithContext(t.Context(), "GET", p.url+"/_matrix/client/v3/account/whoami", nil)
			require.NoError(t, err)
			req.Header.Set("Authorization", "Bearer "+a.(answer).AccessToken)
			res, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			res.Body.Close()
			require.Equal(t, http.StatusOK, res.StatusCode)
			return true
		})
	})
}

// countAccounts counts the accounts there are, and asserts that those who were
// told of one have it.
func countAccounts(t *testing.T, c *assert.CollectT, storage *hs.Storage, told *sync.Map) (n int64) {
	for i := range 8 {
		for j := range 50 {
			user := fmt.Sprintf("user%d-%d", i, j)
			_, err := storage.Accounts.User(t.Context(), user)
			if _, ok := told.Load(user); err == nil {
				n++
			} else {
				require.ErrorIs(c, err, hs.ErrNotFound)
				require.False(c, ok, "%s was told of an account that there is not", user)
			}
		}
	}
	return n
}
