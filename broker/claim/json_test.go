package claim_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/broker/claim"
)

// FuzzParseJSON: what is read is what encoding/json reads, and nothing is read
// that it does not take for one value.
func FuzzParseJSON(f *testing.F) {
	for _, s := range []string{
		`{"a":[1,-2.5e3,true,false,null,"x"],"":{}}`, " [ ] ", `"\ud83d\ude00\"\\"`, `"\ud800"`, `1`, `[1 2]`, `{"a":1,}`,
		`{"a":1 "b":2}`, `{"a"}`, `[,]`, `1 1`, ``, `{"a":1,"\u0061":2}`, "\"\xff\"", `nul`, `-`, `[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := claim.ParseJSON(raw)
		if err != nil {
			return
		}
		if !json.Valid(raw) {
			t.Fatalf("%q is no JSON and was read as %v", raw, got)
		}
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.UseNumber()
		var want any
		if err := dec.Decode(&want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

func BenchmarkEncodeCMW(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := claim.EncodeCMW(good()); err != nil {
			b.Fatal(err)
		}
	}
}
