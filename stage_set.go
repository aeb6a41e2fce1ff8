package uia

import (
	"fmt"
	"iter"

	"github.com/matrix-uia/uia/internal/flow"
	"github.com/matrix-uia/uia/internal/mistake"
)

// stageSet is the stages of an engine, by auth type.
type stageSet map[string]*stage

// stage is a Stage with its optional interfaces, asserted once.
type stage struct {
	Stage
	params  ParamsStage
	opening OpeningStage
	tx      TxStage
	sweeper Sweeper
	free    bool
}

func newStages(list []Stage, m *mistake.List) stageSet {
	set := make(stageSet, len(list))
	for i, s := range list {
		switch {
		case mistake.IsNil(s):
			m.Addf("Stages[%d] is nil", i)
		case s.Type() == "":
			m.Addf("Stages[%d] has no type", i)
		case set[s.Type()] != nil:
			m.Addf("two stages are of type %q", s.Type())
		default:
			set[s.Type()] = newStage(s)
			if c, ok := s.(ConfiguredStage); ok {
				m.Add(fmt.Sprintf("stage %q: ", s.Type()), c.Configured())
			}
		}
	}
	return set
}

func newStage(s Stage) *stage {
	out := &stage{Stage: s}
	if params, ok := s.(ParamsStage); ok {
		out.params = guardedParams{params, out}
	}
	if opening, ok := s.(OpeningStage); ok {
		out.opening = guardedOpening{opening, out}
	}
	if tx, ok := s.(TxStage); ok {
		out.tx = guardedTx{tx, out}
	}
	if sweeper, ok := s.(Sweeper); ok {
		out.sweeper = guardedSweeper{sweeper, out}
	}
	_, out.free = s.(FreeStage)
	return out
}

func (set stageSet) has(typ string) bool { return set[typ] != nil }

// of returns each stage that the flows name, once.
func (set stageSet) of(flows []Flow) (out []*stage) {
	for _, typ := range flow.Types(flows) {
		if s := set[typ]; s != nil {
			out = append(out, s)
		}
	}
	return out
}

// holds reports whether one of the stages sets something aside.
func holds(stages iter.Seq[*stage]) bool {
	for s := range stages {
		if s.tx != nil {
			return true
		}
	}
	return false
}
