package stages

import (
	"context"
	"errors"
	"sync"
	"time"
)

// EmailStore keeps what an EmailStage has to remember between requests. A host with
// several processes keeps it in its database; [EmailMemory] is for one.
type EmailStore interface {
	// Load returns what was saved of this session ID and has not expired: its until is
	// after now. Otherwise it is the zero EmailState, which is not an error.
	Load(ctx context.Context, sid string, now time.Time) (EmailState, error)
	// Save merges state with what is stored: the higher Next and the later until win, and
	// an empty Address keeps the stored one.
	Save(ctx context.Context, sid string, state EmailState, until time.Time) error
}

// EmailState is what is known of one e-mail session.
type EmailState struct {
	// Next is the least send_attempt for which another mail is sent, one more than the
	// highest for which one was. Zero while none was: some clients begin with zero.
	Next    int64
	Address string // the address, once it is confirmed
}

// EmailMemory is an EmailStore in memory. The zero value is ready to use.
type EmailMemory struct {
	// Max is how many sessions are kept; further ones are refused until others
	// expire. Zero means 100,000, about 30 MB.
	Max int
	// Now tells the time. Nil means time.Now.
	Now func() time.Time

	mu       sync.Mutex
	sessions map[string]emailEntry
}

type emailEntry struct {
	EmailState
	until time.Time
}

var _ EmailStore = (*EmailMemory)(nil)

var errEmailFull = errors.New("stages: too many e-mail sessions")

// Load implements [EmailStore].
func (m *EmailMemory) Load(_ context.Context, sid string, now time.Time) (EmailState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if entry, ok := m.sessions[sid]; ok && entry.until.After(now) {
		return entry.EmailState, nil
	}
	return EmailState{}, nil
}

// Save implements [EmailStore].
func (m *EmailMemory) Save(_ context.Context, sid string, state EmailState, until time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if m.Now != nil {
		now = m.Now()
	}
	entry, ok := m.sessions[sid]
	if !ok || !entry.until.After(now) {
		entry = emailEntry{}
	}
	entry.Next = max(entry.Next, state.Next)
	if state.Address != "" {
		entry.Address = state.Address
	}
	if until.After(entry.until) {
		entry.until = until
	}
	limit := m.Max
	if limit == 0 {
		limit = 100_000
	}
	if !ok && len(m.sessions) >= limit {
		for key, old := range m.sessions {
			if !old.until.After(now) {
				delete(m.sessions, key)
			}
		}
		if len(m.sessions) >= limit {
			return errEmailFull
		}
	}
	if m.sessions == nil {
		m.sessions = make(map[string]emailEntry)
	}
	m.sessions[sid] = entry
	return nil
}
