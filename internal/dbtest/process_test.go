package dbtest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
)

// worker is a process that can be killed and started again.
type worker struct {
	f      *farm
	config workerConfig
	client *http.Client
	mu     sync.Mutex
	cmd    *exec.Cmd
	stdin  io.WriteCloser
}

// start starts the process and waits until it serves.
func (w *worker) start() error {
	text, err := json.Marshal(w.config)
	if err != nil {
		return err
	}
	_ = os.Remove(w.config.Socket)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "UIA_WORKER="+string(text))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	w.mu.Lock()
	w.cmd, w.stdin = cmd, stdin
	w.mu.Unlock()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if strings.TrimSpace(line) != "ready" {
		w.kill()
		return fmt.Errorf("worker said %q: %w", line, err)
	}
	return nil
}

// kill ends the process as it stands.
func (w *worker) kill() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cmd != nil {
		_ = w.cmd.Process.Kill()
		_ = w.cmd.Wait()
		w.stdin.Close()
		w.cmd = nil
	}
	w.client.CloseIdleConnections()
}

func (w *worker) signal(s syscall.Signal) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cmd != nil {
		_ = w.cmd.Process.Signal(s)
	}
}
