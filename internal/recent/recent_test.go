package recent

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestParams(t *testing.T) {
	var p Params
	now := time.UnixMilli(1_700_000_000_000)
	assert.Nil(t, p.Find("a", now))
	p.Keep("a", []byte("1"), now.Add(time.Hour))
	p.Keep("a", []byte("2"), now.Add(time.Hour))
	assert.Equal(t, "2", string(p.Find("a", now.Add(time.Hour-1))))
	assert.Nil(t, p.Find("a", now.Add(time.Hour)), "its time is over")
	p.Forget("a")
	p.Forget("unknown")
	assert.Nil(t, p.Find("a", now))
}

func TestParamsAreBounded(t *testing.T) {
	var p Params
	now := time.UnixMilli(1_700_000_000_000)
	for i := range 3 * most {
		p.Keep(strconv.Itoa(i), []byte("x"), now.Add(time.Hour))
		if i%3 == 0 {
			p.Forget(strconv.Itoa(i))
		}
		assert.LessOrEqual(t, len(p.params), most)
	}
	assert.Nil(t, p.Find("1", now), "the oldest has made room")
	assert.NotNil(t, p.Find(strconv.Itoa(3*most-1), now))
	p.Keep("again", []byte("x"), now.Add(time.Hour))
	for i := range most - 1 {
		p.Keep("again", []byte("y"), now.Add(time.Hour)) // takes no second place
		p.Keep("other"+strconv.Itoa(i), []byte("x"), now.Add(time.Hour))
	}
	assert.NotNil(t, p.Find("again", now))
}
