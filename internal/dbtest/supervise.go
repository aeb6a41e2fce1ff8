package dbtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"
	"syscall"
	"time"
)

// process is a server program that does not outlive this one.
type process struct {
	cmd  *exec.Cmd
	life io.WriteCloser
	done chan struct{}
}

// supervisor starts a program and waits for it. It also reads its own standard
// input, a pipe whose other end this process holds: when that closes without a
// line having come, this process is gone, and the supervisor stops the program
// and removes the folder, so that a killed test run leaves nothing behind.
const supervisor = `
exec 3<&0
"$@" </dev/null 3<&- & program=$!
{ read line <&3 || { kill -QUIT $program; sleep 1; kill -KILL $program; rm -rf "$UIA_DIR"; }; } 2>/dev/null & reader=$!
wait $program; status=$?
kill $reader 2>/dev/null
exit $status`

func supervise(cmd *exec.Cmd, log io.Writer, dir string) (*process, error) {
	args := append([]string{"sh", "-c", supervisor, "sh", cmd.Path}, cmd.Args[1:]...)
	cmd.Path, cmd.Args = "/bin/sh", args
	cmd.Env = append(cmd.Env, "UIA_DIR="+dir)
	cmd.Stdout, cmd.Stderr = log, log
	// A process group of its own, so that an interrupt from the terminal reaches
	// this process alone, which then goes and takes the server with it.
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	life, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, life: life, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		_ = cmd.Wait()
	}()
	return p, nil
}

// wait waits for a program that has been told to stop.
func (p *process) wait() {
	_, _ = io.Copy(p.life, bytes.NewReader([]byte("bye\n")))
	<-p.done
	p.life.Close()
}

// poll calls ready until it returns true, ctx ends or gone is closed.
func poll(ctx context.Context, ready func() bool, gone <-chan struct{}) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ready() {
		select {
		case <-tick.C:
		case <-gone:
			return errors.New("it has ended")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
