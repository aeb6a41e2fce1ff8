package dbtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/stretchr/testify/assert"
)

// reply is what a client gets.
type reply struct {
	status  int
	Session string `json:"session"`
	UserID  string `json:"user_id"`
	ErrCode string `json:"errcode"`
	Error   string `json:"error"`
}

func (w *worker) post(ctx context.Context, body any) (r reply, err error) {
	text, err := json.Marshal(body)
	if err != nil {
		return r, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://worker/register", bytes.NewReader(text))
	if err != nil {
		return r, err
	}
	if now := w.f.clock.Load(); now > 0 {
		req.Header.Set(timeHeader, strconv.FormatInt(now, 10))
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return r, err
	}
	defer resp.Body.Close()
	r.status = resp.StatusCode
	return r, json.NewDecoder(resp.Body).Decode(&r)
}

var errGaveUp = errors.New("no final answer")

// register registers one client, each request at some worker, and tries again
// after connection errors and 5xx. It reports whether there is an account: not if
// the token was refused.
func (f *farm) register(ctx context.Context, token string) (bool, error) {
	user := fmt.Sprintf("u%d", f.clients.Add(1))
	session := ""
	var last any
	pause := 5 * time.Millisecond
	deadline := time.Now().Add(90 * time.Second)
	for time.Now().Before(deadline) {
		w := f.workers[rand.IntN(len(f.workers))]
		r, err := w.post(ctx, body(user, token, session))
		switch {
		case err == nil && r.status == http.StatusOK:
			if r.UserID != "@"+user+":test" {
				return false, fmt.Errorf("%s was told that he is %q", user, r.UserID)
			}
			f.mu.Lock()
			f.told[r.UserID] = token
			f.mu.Unlock()
			return true, nil
		case err == nil && r.status == http.StatusUnauthorized && r.ErrCode == "M_UNAUTHORIZED":
			f.refused.Add(1)
			return false, nil
		case err == nil && r.status == http.StatusUnauthorized && session == "":
			session = r.Session
			continue
		case err == nil && r.status < 500 && r.status != http.StatusTooManyRequests:
			// A session that ended, or one whose account is there and cannot be told
			// again: what an honest client does is to begin anew.
			last, session = r, ""
			if r.ErrCode == "M_FORBIDDEN" || r.ErrCode == "M_UNKNOWN" {
				user = fmt.Sprintf("u%d", f.clients.Add(1))
			}
		case ctx.Err() != nil:
			return false, ctx.Err()
		default:
			last = fmt.Sprint(r, err)
			f.failed.Add(1)
			if f.fickle && rand.IntN(5) == 0 {
				return false, nil
			}
		}
		if err := wait(ctx, pause); err != nil {
			return false, err
		}
		pause = min(2*pause, 300*time.Millisecond)
	}
	return false, fmt.Errorf("%w: %v", errGaveUp, last)
}

// wait waits, unless the context ends.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// each runs n clients at a time over all tokens, perToken clients for each, and
// returns how many got an account from each token.
func (f *farm) each(n int, tokens []string, perToken int) map[string]int64 {
	type try struct{ token string }
	tries := make(chan try)
	go func() {
		defer close(tries)
		for _, token := range tokens {
			for range perToken {
				select {
				case tries <- try{token}:
				case <-f.t.Context().Done():
					return
				}
			}
		}
	}()
	made := map[string]int64{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for t := range tries {
				ok, err := f.register(f.t.Context(), t.token)
				assert.NoError(f.t, err)
				if ok {
					mu.Lock()
					made[t.token]++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return made
}
