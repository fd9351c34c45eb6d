// Package strictjson reads the JSON of signed evidence so that no two readers can
// see different things in it: encoding/json takes the last of two members of one
// name, finds them under other spellings of their letters, and replaces bytes that
// are no UTF-8. What is ambiguous is an error here.
package strictjson

import (
	"encoding/json"
	"errors"
	"strings"
)

// ErrObject says that a value is not a JSON object.
var ErrObject = errors.New("not a JSON object")

// Object returns the members of the one JSON object that raw is. Beside what Check
// finds, two names that differ in case alone are an error: another reader would
// take one for the other. Objects among the values are to be read by Object again.
func Object(raw []byte) (map[string]json.RawMessage, error) {
	if err := Check(raw); err != nil {
		return nil, err
	}
	var out map[string]json.RawMessage
	if err := json.Unmarshal(raw, &out); err != nil || out == nil {
		return nil, ErrObject
	}
	seen := make(map[string]bool, len(out))
	for name := range out {
		folded := strings.ToLower(name)
		if seen[folded] {
			return nil, errCase
		}
		seen[folded] = true
	}
	return out, nil
}

// Text returns the string that a member is; ok is false where it is absent, null
// or of another type.
func Text(raw json.RawMessage) (text string, ok bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	return text, json.Unmarshal(raw, &text) == nil
}

// IsNull reports whether a member is absent or null.
func IsNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }
