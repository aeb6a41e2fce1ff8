package register_test

import (
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

const small = `{"username":"alice","password":"wonderland"}`

// bodies are requests that open a session: as clients send them, with one long member,
// and with many members.
func bodies() map[string]string {
	return map[string]string{
		"small": small, "many": members(240, ""),
		"long": members(1, strings.Repeat("x", 12_000)), "both": members(240, strings.Repeat("x", 40)),
	}
}

// members returns a body with so many further members, of this value.
func members(n int, value string) string {
	b := []byte(strings.TrimSuffix(small, "}"))
	for i := range n {
		b = append(b, `,"`+strconv.FormatInt(int64(i), 36)+`":"`+value+`"`...)
	}
	return string(append(b, '}'))
}

// A stranger who sends thousands of members makes the server allocate for none of them
// but those that it reads.
func TestMembersAreReadOnce(t *testing.T) {
	allocations := map[string]float64{}
	for name, body := range bodies() {
		s := newServer(t, nil)
		allocations[name] = testing.AllocsPerRun(20, func() {
			w := httptest.NewRecorder()
			s.handler.ServeHTTP(w, httptest.NewRequest("POST", "/register", strings.NewReader(body)))
			if w.Code != 401 {
				t.Fatal(w.Body)
			}
		})
	}
	t.Log(allocations)
	for name, n := range allocations {
		assert.Less(t, n, 2*allocations["small"], name)
	}
	s := newServer(t, nil)
	s.post("", members(1_500, "")).is(t, 400, "M_BAD_JSON")
	s.post("", members(1, strings.Repeat("x", 12<<10))).is(t, 413, "M_TOO_LARGE")
	assert.Empty(t, s.accounts.asked)
}

// BenchmarkFirstLegMembers reports what the largest bodies that are read, and bodies of
// 64 KiB, which are refused, cost in multiples of an ordinary one.
func BenchmarkFirstLegMembers(b *testing.B) {
	all := bodies()
	all["64 KiB of members"] = members(7_000, "xx")
	all["a member of 64 KiB"] = members(1, strings.Repeat("x", 64<<10))
	s := newServer(b, nil)
	post := func(body string) time.Duration {
		const turn = 20
		start := time.Now()
		for range turn {
			s.handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/register", strings.NewReader(body)))
		}
		return time.Since(start) / turn
	}
	for name, body := range all {
		b.Run(name, func(b *testing.B) {
			var ours, ordinary []time.Duration
			for b.Loop() {
				ours, ordinary = append(ours, post(body)), append(ordinary, post(small))
			}
			slices.Sort(ours)
			slices.Sort(ordinary)
			b.ReportMetric(float64(ours[len(ours)/2])/float64(ordinary[len(ordinary)/2]), "times")
		})
	}
}
