package mistake_test

import (
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/matrix-uia/uia/internal/mistake"
)

func TestInNamesEveryLine(t *testing.T) {
	nested := errors.Join(io.EOF, errors.Join(errors.New("two"), errors.New("three")))
	err := mistake.In("uia: ", mistake.In(`stage "x": `, nested))
	assert.EqualError(t, err, "uia: stage \"x\": EOF\nuia: stage \"x\": two\nuia: stage \"x\": three")
	assert.ErrorIs(t, err, io.EOF)
	assert.NoError(t, mistake.In("uia: ", nil))
}

func TestList(t *testing.T) {
	var l mistake.List
	l.Add("Secrets: ", nil)
	assert.NoError(t, l.Err())
	l.Addf("Stages[%d] is nil", 2)
	l.Add("Secrets: ", errors.Join(errors.New("one"), errors.New("two")))
	assert.EqualError(t, l.Err(), "Stages[2] is nil\nSecrets: one\nSecrets: two")
}

func TestIsNil(t *testing.T) {
	var pointer *io.LimitedReader
	var reader io.Reader = pointer
	for _, v := range []any{nil, pointer, reader} {
		assert.True(t, mistake.IsNil(v))
	}
	for _, v := range []any{0, "", io.LimitedReader{}, &io.LimitedReader{}, []int(nil)} {
		assert.False(t, mistake.IsNil(v), "%#v", v)
	}
}
