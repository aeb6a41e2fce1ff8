package simtest

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSchedulesCanBeWritten(t *testing.T) {
	const text = "0 1! 2? 3x 4X 5~ w T +1 -0 g2"
	s, err := ParseSchedule(text)
	require.NoError(t, err)
	assert.Equal(t, text, s.String())
	assert.Equal(t, Choice{'r', 2, FailAfter}, s[2])
	for _, wrong := range []string{"!", "x", "+", "1+", "1!!", "300"} {
		_, err := ParseSchedule(wrong)
		assert.Error(t, err, "%q", wrong)
	}
}

func TestBudgetsCanBeWritten(t *testing.T) {
	b, err := ParseBudget("P2F0C1")
	require.NoError(t, err)
	assert.Equal(t, Budget{Preemptions: 2, Clocks: 1}, b)
	assert.Equal(t, "P2F0C1", b.String())
	_, err = ParseBudget("P2")
	assert.Error(t, err)
}
