package strictjson_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/strictjson"
)

func TestObject(t *testing.T) {
	got, err := strictjson.Object([]byte(" {\"a\": \"x\", \"b\": null, \"c\": {\"d\": [1, {\"a\": 2}]}} \n"))
	if err != nil || len(got) != 3 || string(got["c"]) != `{"d": [1, {"a": 2}]}` {
		t.Fatalf("%v, %v", got, err)
	}
	if text, ok := strictjson.Text(got["a"]); !ok || text != "x" {
		t.Errorf("a is %q, %v", text, ok)
	}
	for _, name := range []string{"b", "c", "absent"} {
		if _, ok := strictjson.Text(got[name]); ok {
			t.Errorf("%s is text", name)
		}
	}
	if !strictjson.IsNull(got["b"]) || !strictjson.IsNull(got["absent"]) || strictjson.IsNull(got["a"]) {
		t.Error("null and absent are not told from a value")
	}
}

func TestObjectRefused(t *testing.T) {
	for name, raw := range map[string]string{
		"a duplicate": `{"a":1,"a":1}`, "a duplicate by case": `{"a":1,"A":1}`, "a duplicate by escape": `{"a":1,"\u0061":1}`,
		"a duplicate below": `{"b":[{"a":1,"a":1}]}`, "a second value": `{} {}`, "an array": `[]`, "a string": `"{}"`, "null": `null`,
		"bytes that are no text": "{\"a\":\"\xff\"}", "too deep": `{"a":` + strings.Repeat("[", 16) + strings.Repeat("]", 16) + `}`,
		"empty": ``, "cut short": `{"a":1`, "a comment": `{"a":1 /* x */}`, "a name that is no string": `{1:1}`,
	} {
		if got, err := strictjson.Object([]byte(raw)); err == nil || got != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if _, err := strictjson.Object([]byte(`[]`)); !errors.Is(err, strictjson.ErrObject) {
		t.Errorf("an array: %v", err)
	}
}

// FuzzObject: what passes reads the same when it is written again.
func FuzzObject(f *testing.F) {
	f.Add([]byte(`{"a":"x","b":{"c":[1,null,{"d":1e3}]}}`))
	f.Add([]byte(`{"a":1,"A":1}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var got map[string]json.RawMessage
		var err error
		evidencetest.Bounded(t, len(raw), 256, func() { got, err = strictjson.Object(raw) })
		if err != nil {
			return
		}
		again, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		if second, err := strictjson.Object(again); err != nil || len(second) != len(got) {
			t.Errorf("%s: %v", again, err)
		}
	})
}
