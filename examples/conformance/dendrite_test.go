package conformance

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia/internal/dendritetest"
	"github.com/matrix-uia/uia/uiatest"
)

var update = flag.Bool("update", false, "write down what Dendrite is found to do; sentences about what fails stay as they are")

// golden is where that is written down.
const golden = "testdata/dendrite.json"

// findings are what the kit finds at Dendrite.
type findings struct {
	Version string            `json:"version"`
	Areas   map[string]counts `json:"areas"`
	Closed  counts            `json:"closed"` // of all areas, where registration is off
	// Failed says of each case that fails what Dendrite does.
	Failed map[string]string `json:"failed"`
}

// counts are how many cases ended how: in JSON a sentence, because that is a line.
type counts struct{ Passed, Failed, NotApplicable int }

const sentence = "%d passed, %d failed, %d not applicable"

func (c counts) MarshalText() ([]byte, error) {
	return fmt.Appendf(nil, sentence, c.Passed, c.Failed, c.NotApplicable), nil
}

func (c *counts) UnmarshalText(text []byte) error {
	_, err := fmt.Sscanf(string(text), sentence, &c.Passed, &c.Failed, &c.NotApplicable)
	return err
}

// add counts a case, and keeps what is known of it if it failed.
func (c counts) add(r uiatest.Report, failed, known map[string]string) counts {
	switch r.Outcome {
	case uiatest.Passed:
		c.Passed++
	case uiatest.Failed:
		c.Failed++
		failed[r.Name] = known[r.Name]
	default:
		c.NotApplicable++
	}
	return c
}

// The kit finds at a homeserver that nobody here wrote what it found before, and for
// each failure there is a sentence that says what the homeserver does. What changes
// here is a change of the kit: go test -run TestDendrite -update writes it down.
func TestDendrite(t *testing.T) {
	raw, err := os.ReadFile(golden)
	require.NoError(t, err)
	var want findings
	require.NoError(t, json.Unmarshal(raw, &want))
	got := findings{Version: dendritetest.Version, Areas: make(map[string]counts), Failed: make(map[string]string)}
	explain := make(map[string]string)
	measure := func(server uiatest.Server, count func(uiatest.Report)) {
		reports, err := uiatest.Run(t.Context(), server, &uiatest.Options{Parallel: 4, Rate: 1000})
		require.NoError(t, err)
		for _, r := range reports {
			count(r)
			explain[r.Name] += r.Explain()
		}
	}
	open := dendritetest.Start(t, dendritetest.Options{Guests: true})
	measure(uiatest.Server{URL: open.URL}, func(r uiatest.Report) {
		got.Areas[r.Area] = got.Areas[r.Area].add(r, got.Failed, want.Failed)
	})
	closed := dendritetest.Start(t, dendritetest.Options{Closed: true})
	measure(uiatest.Server{URL: closed.URL, Closed: true}, func(r uiatest.Report) {
		got.Closed = got.Closed.add(r, got.Failed, want.Failed)
	})

	if *update {
		raw, err := json.MarshalIndent(got, "", "  ")
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(golden, append(raw, '\n'), 0o644))
	}
	for name, sentence := range got.Failed {
		_, known := want.Failed[name]
		require.True(t, known || *update, "it failed: %s", explain[name])
		require.NotEmpty(t, sentence, "say in %s what Dendrite does: %s", golden, explain[name])
	}
	if !*update {
		require.Equal(t, want, got)
	}
}
