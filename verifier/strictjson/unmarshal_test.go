package strictjson_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/strictjson"
)

func TestCheck(t *testing.T) {
	for name, c := range map[string]struct {
		raw string
		ok  bool
	}{
		"object":                       {`{"a":1,"b":[{"a":2},{"a":3}]}`, true},
		"the same name elsewhere":      {`{"a":{"a":1},"b":{"a":2}}`, true},
		"the same value twice":         {`["a","a",{"b":"a","c":"a"}]`, true},
		"a name that holds a quote":    {`{"a\"":1,"a":2,"\\":3}`, true},
		"names that differ in case":    {`{"a":1,"A":2}`, true},
		"brackets in a string":         {`{"a":"}{][,\"","b":"]"}`, true},
		"a scalar":                     {`7`, true},
		"empty containers":             {`[{},[],{"a":[]}]`, true},
		"depth 16":                     {strings.Repeat("[", 16) + strings.Repeat("]", 16), true},
		"duplicate":                    {`{"a":1,"a":1}`, false},
		"duplicate deep inside":        {`[{"x":[{"b":1,"c":[1],"b":2}]}]`, false},
		"duplicate behind an object":   {`{"a":{"b":1},"a":2}`, false},
		"duplicate behind an array":    {`{"a":[1,{"a":1}],"a":2}`, false},
		"duplicate by an escape":       {`{"a":1,"\u0061":2}`, false},
		"duplicate of replaced halves": {`{"\ud800":1,"\udc00":2}`, false},
		"depth 17":                     {strings.Repeat("[", 17) + strings.Repeat("]", 17), false},
		"trailing value":               {`{} {}`, false},
		"trailing byte":                {"{}\x00", false},
		"not UTF-8":                    {"{\"a\":\"\xff\"}", false},
		"single quotes":                {`{'a':1}`, false},
		"trailing comma":               {`{"a":1,}`, false},
		"empty":                        {``, false},
	} {
		if err := strictjson.Check([]byte(c.raw)); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type sample struct {
	A string `json:"a"`
	B struct {
		C int `json:"c"`
	} `json:"b"`
}

func TestUnmarshal(t *testing.T) {
	for name, c := range map[string]struct {
		raw      string
		ok, only bool // taken by Unmarshal, by UnmarshalKnown
	}{
		"known":                  {`{"a":"x","b":{"c":2}}`, true, true},
		"unknown member":         {`{"a":"x","z":1}`, true, false},
		"unknown inside":         {`{"b":{"c":1,"z":1}}`, true, false},
		"another case":           {`{"A":"x"}`, true, false},
		"another case inside":    {`{"b":{"C":5}}`, true, false},
		"both cases":             {`{"a":"x","A":"y"}`, true, false},
		"duplicate":              {`{"a":"x","a":"y"}`, false, false},
		"duplicate of unknown":   {`{"z":1,"z":2}`, false, false},
		"deep in what is passed": {`{"z":[{"y":{"q":1,"q":2}}]}`, false, false},
		"duplicate, the same":    {`{"a":"x","a":"x"}`, false, false},
		"another type":           {`{"a":1}`, false, false},
		"two values":             {`{} {}`, false, false},
		"duplicate of nothing":   {`{"a":"","a":""}`, false, false},
	} {
		var loose, strict sample
		if err := strictjson.Unmarshal([]byte(c.raw), &loose); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if err := strictjson.UnmarshalKnown([]byte(c.raw), &strict); (err == nil) != c.only {
			t.Errorf("%s, known members only: %v", name, err)
		}
	}
	var s sample
	if err := strictjson.Unmarshal([]byte(`{"a":"lower","A":"upper","b":{"C":7}}`), &s); err != nil || s.A != "lower" || s.B.C != 0 {
		t.Errorf("exact names: %+v, %v", s, err)
	}
}

func FuzzCheck(f *testing.F) {
	f.Add([]byte(`{"a":[1,{"b":"c\"d"}],"a":null}`))
	f.Add([]byte(strings.Repeat("[", 64)))
	f.Add([]byte(`{"\u0061":1,"b":"\\"}`))
	f.Add([]byte(strings.Repeat("9", 309))) // the first length that no float64 holds
	f.Fuzz(func(t *testing.T, raw []byte) {
		var err error
		evidencetest.Bounded(t, len(raw), 128, func() { err = strictjson.Check(raw) })
		// Not json.Unmarshal: into an interface it refuses numbers beyond float64,
		// which the grammar allows and which only their reader can judge.
		if err == nil && !json.Valid(raw) {
			t.Errorf("took what is not JSON: %q", raw)
		}
	})
}
