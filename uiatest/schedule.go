package uiatest

import "sync"

// schedule runs cases, some of them side by side. A case that waits for a limit of
// the homeserver makes room for one that the limit does not touch.
type schedule struct {
	parallel int
	run      func(i int)
	shut     func(i int) bool // reports whether the case would have to wait if it were started now

	mu      sync.Mutex
	queue   []int
	running int
	waiting int
	all     sync.WaitGroup
}

// play runs the cases of the queue, and returns when all have ended.
func (s *schedule) play() {
	s.mu.Lock()
	s.fill()
	s.mu.Unlock()
	s.all.Wait()
}

// fill starts cases while there is room. s.mu is held.
func (s *schedule) fill() {
	for s.running < s.parallel && len(s.queue) > 0 {
		next := 0
		for next < len(s.queue) && s.shut(s.queue[next]) {
			next++
		}
		if next == len(s.queue) { // every case would have to wait: one is started if none waits yet
			if s.waiting > 0 {
				return
			}
			next = 0
		}
		i := s.queue[next]
		s.queue = append(s.queue[:next:next], s.queue[next+1:]...)
		s.running++
		s.all.Go(func() {
			s.run(i)
			s.change(-1, 0)
		})
	}
}

// wait is called by a case that begins to wait, and what it returns when that ends.
func (s *schedule) wait() (resume func()) {
	s.change(-1, 1)
	return func() { s.change(1, -1) }
}

func (s *schedule) change(running, waiting int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running += running
	s.waiting += waiting
	s.fill()
}
