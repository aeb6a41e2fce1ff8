package canonical

import (
	"bytes"
	"encoding/json"
	"iter"
)

// Fields returns the members of a JSON object in any form, in their order: each name
// without quotes and escapes, and each value as it stands there. It returns false for
// what is no JSON object. Nothing is copied but names that have escapes.
func Fields(object []byte) (iter.Seq2[[]byte, []byte], bool) {
	object = bytes.Trim(object, " \t\r\n")
	if len(object) == 0 || object[0] != '{' || !json.Valid(object) {
		return nil, false
	}
	return func(yield func(name, value []byte) bool) {
		for pos := skipSpace(object, 1); object[pos] == '"'; pos = skipSpace(object, pos+1) { // pos+1 skips the comma
			end := skipString(object, pos)
			name := unquote(object[pos:end])
			start := skipSpace(object, skipSpace(object, end)+1) // +1 skips the colon
			pos = skip(object, start)
			if !yield(name, bytes.TrimRight(object[start:pos], " \t\r\n")) {
				return
			}
			if pos = skipSpace(object, pos); object[pos] == '}' {
				return
			}
		}
	}, true
}

func skipSpace(object []byte, pos int) int {
	for object[pos] == ' ' || object[pos] == '\t' || object[pos] == '\r' || object[pos] == '\n' {
		pos++
	}
	return pos
}

// unquote returns what a JSON string stands for.
func unquote(quoted []byte) []byte {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return quoted[1 : len(quoted)-1]
	}
	var s string
	_ = json.Unmarshal(quoted, &s) // it is valid
	return []byte(s)
}
