package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// newServer returns a server without the time limits that would end long polls and
// uploads.
func newServer(handler http.Handler, g *gate) *http.Server {
	return &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		ErrorLog: newErrorLog(g.log),
	}
}

// serve serves until ctx ends, and then for stop_timeout at most what is under way.
func (g *gate) serve(ctx context.Context) error {
	listener, err := net.Listen("tcp", g.listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	m := &monitor{g: g}
	servers := []*http.Server{newServer(g.handler, g)}
	listeners := []net.Listener{listener}
	if g.monitor != "" {
		l, err := net.Listen("tcp", g.monitor)
		if err != nil {
			return errors.Join(fmt.Errorf("monitor: %w", err), listener.Close())
		}
		servers, listeners = append(servers, newServer(m.handler(), g)), append(listeners, l)
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	for _, run := range []func(context.Context){g.engine.Maintain, g.accounts.Maintain, m.watch} {
		wg.Go(func() { run(background) })
	}
	failed := make(chan error, len(servers))
	for i, s := range servers {
		go func() { failed <- s.Serve(listeners[i]) }()
	}
	g.log.InfoContext(ctx, "ready", "listen", "http://"+listener.Addr().String(), "upstream", g.client.URL, "server_name", g.serverName)

	select {
	case err = <-failed:
	case <-ctx.Done():
		m.stopping.Store(true)
		g.log.InfoContext(background, "stopping", "stop_timeout", g.stopTimeout)
	}
	grace, cancel := context.WithTimeout(background, g.stopTimeout)
	defer cancel()
	for _, s := range servers {
		if s.Shutdown(grace) != nil {
			_ = s.Close() // a sync that waits for longer is cut off, and the client begins another
		}
	}
	stop()
	wg.Wait()
	return err
}
