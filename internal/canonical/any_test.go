package canonical

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// FuzzFields compares what is found with what encoding/json finds.
func FuzzFields(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, ` { } `, `{"a":1}`, "\t{ \"a\" : [1, {\"b\":\"}\"}] ,\n\"b\":null , \"\\u0061\" : \"x\\\"y\" }\n", `{"a":1,"a":2}`, `[]`, `"a"`, `null`, `{"a"}`, `{"a":1}x`,
		`{"":{},"\\":"\\","\"":-1.5e3}`, `{"a":true ,"b": false}`, "\u00a0{}", "{\"\xff\":1}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, object []byte) {
		var want map[string]json.RawMessage
		err := json.Unmarshal(object, &want)
		fields, ok := Fields(object)
		if err != nil || want == nil {
			require.False(t, ok, "%q", object)
			return
		}
		require.True(t, ok, "%q", object)
		got := map[string]json.RawMessage{}
		for name, value := range fields {
			got[string(name)] = value
		}
		if len(got) == len(want) { // else names that are no UTF-8 have become one
			for name, value := range want {
				if own, ok := got[name]; ok {
					assert.Equal(t, string(value), string(own), "%q of %q", name, object)
				}
			}
		}
		require.GreaterOrEqual(t, len(got), len(want))
		for range fields { // and it can be left
			break
		}
	})
}
