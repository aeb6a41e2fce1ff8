package simtest

import (
	"context"
	"fmt"
	"hash/maphash"
	"runtime"
	"time"
)

// actor is a goroutine whose calls the scheduler orders. Its context carries it, and
// the engine passes contexts everywhere: that is how a call is known to be its own.
type actor struct {
	id     int
	name   string
	proc   int
	twin   *actor // does the same, and starts first; nil if none
	script func(ctx context.Context, a *actor)

	w       *world
	verdict chan Verdict
	at      *point // where it stands; nil while it runs, or waits for the engine's timers
	done    bool
	history uint64 // of what it was answered, and when it stopped: what it does depends on nothing else
	runs    int    // of the operation
	draws   uint64 // of random bytes
	tx      *transaction
}

type actorKey struct{}

// actorOf returns nil for calls that nobody schedules: before and after all.
func actorOf(ctx context.Context) *actor {
	a, _ := ctx.Value(actorKey{}).(*actor)
	return a
}

// point is a call at which an actor stops.
type point struct {
	name  string
	arg   string   // for the trace
	write bool     // it can take effect and its answer be lost
	locks []string // rows that it writes: it waits for transactions that have them
}

const startPoint = "start"

func (a *actor) started() bool { return a.at == nil || a.at.name != startPoint }

var seed = maphash.MakeSeed()

func mix(h uint64, s string) uint64 {
	var m maphash.Hash
	m.SetSeed(seed)
	var b [8]byte
	for i := range b {
		b[i] = byte(h >> (8 * i))
	}
	_, _ = m.Write(b[:])
	_, _ = m.WriteString(s)
	return m.Sum64()
}

// note adds to the history of the actor; nil is nobody.
func (a *actor) note(what ...any) {
	if a != nil {
		a.history = mix(a.history, fmt.Sprint(what...))
	}
}

// stop waits until the scheduler lets the actor go on.
func (a *actor) stop(p *point) Verdict {
	a.w.turns.Load() // a timer may have woken it
	if a.w.over {
		runtime.Goexit()
	}
	// What it is about to do depends on the clock as it was until here.
	a.note(p.name, a.w.since(), a.w.skew[a.proc])
	a.at = p
	a.w.stir()
	v := <-a.verdict
	a.at = nil
	if a.w.over {
		runtime.Goexit()
	}
	return v
}

func (w *world) startActors() {
	for _, a := range w.actors {
		ctx := context.WithValue(context.Background(), actorKey{}, a)
		go func() {
			defer func() {
				w.turns.Load()
				a.done, a.at = true, nil
				w.stir()
			}()
			a.stop(&point{name: startPoint})
			a.script(ctx, a)
		}()
	}
}

// stir tells the scheduler that an actor has stopped or ended, if it waits for that.
func (w *world) stir() {
	select {
	case w.events <- struct{}{}:
	default:
	}
}

// die ends the actor's process: none of its actors goes on. What PostgreSQL has of a
// transaction of it stays locked until the server notices.
func (w *world) die(a *actor) {
	w.alive[a.proc] = false
	for _, b := range w.actors {
		if b.proc == a.proc && b.tx != nil {
			if w.kind.rows {
				w.ghosts = append(w.ghosts, ghost{a.proc, b.tx})
			} else {
				b.tx.end()
			}
		}
	}
	a.at = &point{name: "dead"}
	<-a.verdict // closed when all is over
	runtime.Goexit()
}

// ghost is a transaction whose process is dead.
type ghost struct {
	proc int
	tx   *transaction
}

func (w *world) since() time.Duration { return time.Since(w.t0) }

// now is what the process's clock shows.
func (w *world) now(proc int) time.Time { return time.Now().Add(w.skew[proc]) }
