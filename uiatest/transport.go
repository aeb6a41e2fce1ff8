package uiatest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
)

// inProcess is an http.RoundTripper to a handler. An answer is kept in memory up to
// a bound, and a handler that does not return is left behind when the context ends.
type inProcess struct {
	handler http.Handler
	address string // of the client
}

func (t inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	in := r.Clone(ctx)
	in.RequestURI = r.URL.RequestURI()
	in.RemoteAddr = t.address + ":49152"
	if in.Body == nil {
		in.Body = http.NoBody
	}
	w := &recorder{header: make(http.Header), stop: cancel}
	done := make(chan any, 1)
	go func() {
		defer cancel()
		defer func() { done <- recover() }()
		t.handler.ServeHTTP(w, in)
	}()
	select {
	case <-r.Context().Done():
		return nil, r.Context().Err()
	case panicked := <-done:
		if panicked != nil {
			return nil, fmt.Errorf("the handler panicked: %v", panicked)
		}
	}
	w.WriteHeader(http.StatusOK)
	return &http.Response{
		Status: http.StatusText(w.status), StatusCode: w.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.sent, Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len()), Request: r,
	}, nil
}

// recorder is the http.ResponseWriter of an inProcess.
type recorder struct {
	header, sent http.Header
	status       int
	body         bytes.Buffer
	stop         func()
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status, w.sent = status, w.header.Clone()
	}
}

func (w *recorder) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.body.Len() > maxAnswer {
		w.stop()
		return 0, io.ErrShortWrite
	}
	return w.body.Write(p)
}
