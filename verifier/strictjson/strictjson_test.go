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

func TestRefused(t *testing.T) {
	deep := func(n int) string { return `{"a":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}` }
	wide := func(n int) string { return `{"a":[` + strings.TrimSuffix(strings.Repeat("0,", n), ",") + `]}` }
	for name, tc := range map[string]struct {
		raw  string
		want error
	}{
		"a duplicate":                   {`{"a":1,"a":1}`, strictjson.ErrDuplicate},
		"a duplicate by case":           {`{"a":1,"A":1}`, strictjson.ErrDuplicate},
		"a duplicate by escape":         {`{"a":1,"\u0061":1}`, strictjson.ErrDuplicate},
		"a duplicate below":             {`{"b":[{"a":1,"a":1}]}`, strictjson.ErrDuplicate},
		"two lone surrogates":           {`{"\ud800":1,"\ud801":1}`, strictjson.ErrDuplicate},
		"a second value":                {`{} {}`, strictjson.ErrTrailing},
		"a bracket behind":              {`{}}`, strictjson.ErrTrailing},
		"an array":                      {`[]`, strictjson.ErrObject},
		"a string":                      {`"{}"`, strictjson.ErrObject},
		"bytes that are no text":        {"{\"a\":\"\xff\"}", strictjson.ErrUTF8},
		"too deep":                      {deep(16), strictjson.ErrDepth},
		"too wide":                      {wide(4096), strictjson.ErrNodes},
		"empty":                         {``, nil},
		"cut short":                     {`{"a":1`, nil},
		"cut short in a list":           {`{"a":[1`, nil},
		"a comma too many":              {`{"a":1,}`, nil},
		"a comment":                     {`{"a":1 /* x */}`, nil},
		"a name that is no string":      {`{1:1}`, nil},
		"not a number":                  {`{"a":01}`, nil},
		"a control character in a text": {"{\"a\":\"\n\"}", nil},
	} {
		got, err := strictjson.Object([]byte(tc.raw))
		if err == nil || got != nil || tc.want != nil && !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for name, raw := range map[string]string{"as deep as allowed": deep(15), "as wide as allowed": wide(4095)} {
		if _, err := strictjson.Object([]byte(raw)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
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
