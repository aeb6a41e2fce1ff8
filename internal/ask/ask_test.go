package ask

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func request(t *testing.T, url string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/path?access_token=hidden", strings.NewReader("hidden"))
	require.NoError(t, err)
	return r
}

func TestAnswers(t *testing.T) {
	var followed atomic.Bool
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/path" {
			followed.Store(true)
		}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(http.StatusTemporaryRedirect)
		_, _ = io.WriteString(w, "12345")
	}))
	defer srv.Close()
	for limit, good := range map[int64]bool{4: false, 5: true, 6: true} {
		a, err := Do(nil, request(t, srv.URL), limit)
		if !good {
			require.ErrorContains(t, err, "too large")
			assert.NotContains(t, err.Error(), "hidden")
			continue
		}
		require.NoError(t, err)
		assert.Equal(t, 307, a.Status)
		assert.Equal(t, "12345", string(a.Body))
		assert.Equal(t, "/elsewhere", a.Header.Get("Location"))
	}
	assert.False(t, followed.Load(), "a redirect was followed")
}

// counted is an answer of 100 MB, of which it counts what is read.
type counted struct{ read int }

func (c *counted) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Body: io.NopCloser(io.LimitReader(c, 100<<20))}, nil
}

func (c *counted) Read(p []byte) (int, error) {
	c.read += len(p)
	return len(p), nil
}

func TestAnEndlessAnswer(t *testing.T) {
	c := &counted{}
	_, err := Do(c, request(t, "http://x"), 1<<20)
	require.ErrorContains(t, err, "too large")
	assert.LessOrEqual(t, c.read, 1<<20+1)
}

func TestErrorsHideWhatWasSent(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, r := range map[string]*http.Request{
		"hangs up": request(t, srv.URL), "ended": request(t, srv.URL).WithContext(ended), "nobody there": request(t, "http://127.0.0.1:1"),
	} {
		_, err := Do(nil, r, 10)
		require.ErrorContains(t, err, "POST /path", name)
		assert.NotContains(t, err.Error(), "hidden", name)
	}
	srv.Close()
}
