package ledger_test

import (
	"encoding/json"
	"testing"

	"github.com/google/uuid"
	"github.com/gowebpki/jcs"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// TestPlainFormIsThatOfTheLibrary: where the short way says yes, it says what the
// library says.
func TestPlainFormIsThatOfTheLibrary(t *testing.T) {
	for name, v := range map[string]any{
		"an attestation": ledger.Attestation{Type: ledger.TypeAttestation, ID: uuid.New(), Reasons: []ledger.Reason{{Code: "b", Detail: "ü €"}}, Tier: -3},
		"a node":         ledger.Node{ID: "x", RootHash: [32]byte{1}, Groups: []string{"a", ""}},
		"a node state":   ledger.NodeState{Clock: 1 << 60, PCRs: []byte("{}")},
		"nested":         json.RawMessage(`{"b":{"z":[],"a":{}},"a":[{"y":1,"x":[true,false,null]},0]}`),
		"a prefix":       json.RawMessage(`{"ab":1,"a":2,"":3,"B":4}`),
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := ledger.PlainForm(v)
			if !ok {
				t.Fatal("not plain")
			}
			expectCanonical(t, v, got)
		})
	}
}

func expectCanonical(t *testing.T, v any, got []byte) {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	want, err := jcs.Transform(raw)
	if err != nil {
		t.Fatalf("plain, and the library says %v: %s", err, raw)
	}
	if string(got) != string(want) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestNotPlain: what is spelt in more than one way is left to the library.
func TestNotPlain(t *testing.T) {
	for name, text := range map[string]string{
		"a fraction":              `1.5`,
		"an exponent":             `1e3`,
		"minus zero":              `-0`,
		"sixteen digits":          `1234567890123456`,
		"an escape":               `"\n"`,
		"a name with an escape":   `{"a\nb":1}`,
		"a name beyond ASCII":     `{"é":1}`,
		"a name twice":            `{"a":1,"a":2}`,
		"a name twice, unordered": `{"b":0,"a":1,"a":2}`,
		"deep":                    `[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]`,
		"no UTF-8":                "\"\x86\"",
		"a line separator":        `"\u2028"`,
	} {
		t.Run(name, func(t *testing.T) {
			if got, ok := ledger.PlainForm(json.RawMessage(text)); ok {
				t.Errorf("plain: %s", got)
			}
		})
	}
	if _, ok := ledger.PlainForm(func() {}); ok {
		t.Error("a function is plain")
	}
}

// FuzzPlainForm: any JSON either goes the long way or comes out as the library
// has it.
func FuzzPlainForm(f *testing.F) {
	for _, s := range []string{`{"b":1,"a":[{},[],"x"]}`, `-12`, `"é"`, `{"a":-0}`, `[1.0]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if !json.Valid(raw) {
			return
		}
		if got, ok := ledger.PlainForm(json.RawMessage(raw)); ok {
			expectCanonical(t, json.RawMessage(raw), got)
		}
	})
}

func BenchmarkCanonical(b *testing.B) {
	a := ledger.Attestation{Type: ledger.TypeAttestation, ID: uuid.New(), Reasons: []ledger.Reason{}, Events: []string{}, SVIDs: []ledger.IssuedSVID{{}}}
	for name, v := range map[string]any{"attestation": a, "node": ledger.Node{Groups: []string{"a"}}, "state": ledger.NodeState{}} {
		raw, err := json.Marshal(v)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name+"/plain", func(b *testing.B) {
			for b.Loop() {
				if _, ok := ledger.PlainForm(v); !ok {
					b.Fatal("not plain")
				}
			}
		})
		b.Run(name+"/library", func(b *testing.B) {
			for b.Loop() {
				if _, err := jcs.Transform(raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
