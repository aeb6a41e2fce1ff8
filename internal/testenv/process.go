package testenv

import (
	"context"
	"errors"
	"io"
	"os/exec"
	"syscall"
	"time"
)

// Process is a program that runs beside the tests and does not outlive them.
type Process struct {
	life io.WriteCloser
	done chan struct{}
}

// supervisor starts a program and waits for it. It also reads its own standard
// input, a pipe whose other end this process holds. A line that says kill ends the
// program as it stands. When the pipe closes without a line having come, this process
// is gone, and the supervisor stops the program and removes the folder, so that a
// killed test run leaves nothing behind.
const supervisor = `
exec 3<&0
"$@" </dev/null 3<&- & program=$!
{
	if read line <&3; then
		[ "$line" != kill ] || kill -KILL $program
	else
		kill -QUIT $program; sleep 1; kill -KILL $program; rm -rf "$UIA_DIR"
	fi
} 2>/dev/null & reader=$!
wait $program; status=$?
kill $reader 2>/dev/null
exit $status`

// Start starts a program that writes to log and keeps its files in dir. If this
// process ends without having waited for the program, the program is stopped and
// dir removed.
func Start(cmd *exec.Cmd, log io.Writer, dir string) (*Process, error) {
	args := append([]string{"sh", "-c", supervisor, "sh", cmd.Path}, cmd.Args[1:]...)
	cmd.Path, cmd.Args = "/bin/sh", args
	cmd.Env = append(cmd.Environ(), "UIA_DIR="+dir)
	cmd.Stdout, cmd.Stderr = log, log
	// A process group of its own, so that an interrupt from the terminal reaches
	// this process alone, which then goes and takes the program with it.
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
	p := &Process{life: life, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		_ = cmd.Wait()
	}()
	return p, nil
}

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for a program that has been told to stop.
func (p *Process) Wait() { p.last("bye\n") }

// Kill ends the program as it stands, and leaves its folder as it is.
func (p *Process) Kill() { p.last("kill\n") }

// Stop stops the program, and removes its folder.
func (p *Process) Stop() {
	p.life.Close()
	<-p.done
}

func (p *Process) last(line string) {
	_, _ = io.WriteString(p.life, line)
	<-p.done
	p.life.Close()
}

// Poll calls ready until it returns true, ctx ends or gone is closed. A nil gone
// never is.
func Poll(ctx context.Context, ready func() bool, gone <-chan struct{}) error {
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
