package ledger_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/gowebpki/jcs"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// canonicalTypes is what Canonical is asked for.
var canonicalTypes = []any{
	ledger.Attestation{},
	ledger.Issuance{},
	ledger.Reading{},
	ledger.Grant{},
	ledger.Node{},
	ledger.NodeState{},
	ledger.Admission{},
	ledger.JoinToken{},
	ledger.Key{},
	ledger.Operator{},
	ledger.Retention{},
	ledger.Hold{},
	ledger.Erasure{},
	ledger.Measured{},
	map[string]string{},
}

// expectCanonical compares with what the library makes of the JSON of v.
func expectCanonical(t *testing.T, v any, got []byte) {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatalf("plain, and encoding/json says %v: %s", err, got)
	}
	want, err := jcs.Transform(raw)
	if err != nil {
		t.Fatalf("plain, and the library says %v: %s", err, raw)
	}
	if string(got) != string(want) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestPlainFormOfOurTypes: what we write goes the short way, empty values and
// all members set, and comes out as the library has it.
func TestPlainFormOfOurTypes(t *testing.T) {
	for _, zero := range canonicalTypes {
		t.Run(fmt.Sprintf("%T", zero), func(t *testing.T) {
			full := reflect.New(reflect.TypeOf(zero)).Elem()
			fill(rand.New(rand.NewPCG(1, 2)), full, plainTexts)
			for _, v := range []any{zero, full.Interface(), full.Addr().Interface()} {
				got, ok := ledger.PlainForm(v)
				if !ok {
					t.Fatalf("not plain: %+v", v)
				}
				expectCanonical(t, v, got)
			}
		})
	}
}

var (
	plainTexts = []string{"", "a", "spiffe://x/zone/y", "<&>'", "ü €", "\u2028", "\x7f"}
	oddTexts   = append([]string{"\n", `"`, `\`, "\x00", "\xff", "\ud7ff\U00010000", "a\xc3"}, plainTexts...)
)

// fill sets everything in v to some value.
func fill(r *rand.Rand, v reflect.Value, texts []string) {
	switch p := v.Addr().Interface().(type) {
	case *time.Time:
		*p = time.UnixMicro(r.Int64N(1 << 52)).UTC()
		return
	case *uuid.UUID:
		for i := range p {
			p[i] = byte(r.Uint32())
		}
		return
	case *map[string]string:
		*p = map[string]string{"10": "a", "2": texts[r.IntN(len(texts))], "": ""}
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(texts[r.IntN(len(texts))])
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int, reflect.Int64:
		v.SetInt(r.Int64N(2e15) - 1e15)
		if len(texts) > len(plainTexts) {
			v.SetInt(int64(r.Uint64()) >> r.IntN(64))
		}
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		v.SetUint(r.Uint64() >> (64 - v.Type().Bits()))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(r, v.Elem(), texts)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), r.IntN(4), 4))
		fallthrough
	case reflect.Array:
		for i := range v.Len() {
			fill(r, v.Index(i), texts)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(r, v.Field(i), texts)
		}
	default:
		panic(v.Type().String())
	}
}

// TestNotPlain: what is spelt in more than one way, or by other rules than those
// of our types, is left to the library.
func TestNotPlain(t *testing.T) {
	year := time.Date(12345, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, v := range map[string]any{
		"nothing":               nil,
		"a function":            func() {},
		"a fraction":            1.5,
		"beyond fifteen digits": int64(1e15),
		"and below":             int64(-1e15),
		"and without a sign":    uint64(1e15),
		"a control character":   "\n",
		"a quote":               `"`,
		"a backslash":           `\`,
		"no UTF-8":              "\x86",
		"a name beyond ASCII":   map[string]string{"é": ""},
		"a name with an escape": map[string]string{"\n": ""},
		"a time without text":   year,
		"JSON of somebody":      json.RawMessage("{}"),
		"something of an any":   []any{1},
		"a member without name": struct{ A int }{},
		"a name in upper case": struct {
			A int `json:"A"`
		}{},
		"a name twice":       reflect.New(twice()).Elem().Interface(),
		"an embedded struct": struct{ ledger.Reason }{},
		"an empty struct": struct {
			A struct{} `json:"a,omitempty"`
		}{},
		"zero left out": struct {
			A int `json:"a,omitzero"`
		}{},
		"a text in a text": struct {
			A string `json:"a,string"`
		}{},
		"its own JSON": struct {
			A json.Number `json:"a"`
		}{},
		"its own JSON, pointed": struct {
			A *json.RawMessage `json:"a"`
		}{},
		"bytes of another name": []status{1},
		"a map of other things": map[string]int{},
	} {
		t.Run(name, func(t *testing.T) {
			values := []any{v}
			if v != nil {
				pointer := reflect.New(reflect.TypeOf(v))
				pointer.Elem().Set(reflect.ValueOf(v))
				values = append(values, pointer.Interface())
			}
			for _, v := range values {
				if got, ok := ledger.PlainForm(v); ok {
					t.Errorf("plain: %s", got)
				}
			}
		})
	}
}

type status byte

// twice is a struct type that no compiler lets pass vet.
func twice() reflect.Type {
	return reflect.StructOf([]reflect.StructField{
		{Name: "A", Type: reflect.TypeFor[int](), Tag: `json:"a"`},
		{Name: "B", Type: reflect.TypeFor[int](), Tag: `json:"a"`},
	})
}

// FuzzPlainForm: any value of ours either goes the long way or comes out as the
// library has it.
func FuzzPlainForm(f *testing.F) {
	f.Add(uint64(1), uint8(0), "a")
	f.Add(uint64(2), uint8(4), "\u2028<\xff")
	f.Fuzz(func(t *testing.T, seed uint64, which uint8, text string) {
		v := reflect.New(reflect.TypeOf(canonicalTypes[int(which)%len(canonicalTypes)])).Elem()
		fill(rand.New(rand.NewPCG(seed, seed)), v, append([]string{text}, oddTexts...))
		if got, ok := ledger.PlainForm(v.Interface()); ok {
			expectCanonical(t, v.Interface(), got)
			if pointed, ok := ledger.PlainForm(v.Addr().Interface()); !ok || !bytes.Equal(pointed, got) {
				t.Errorf("by its pointer %s, by its value %s", pointed, got)
			}
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
			b.ReportAllocs()
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

// BenchmarkRow makes the bytes that the HMAC of a row is over.
func BenchmarkRow(b *testing.B) {
	node, state := ledger.Node{Groups: []string{"a"}}, ledger.NodeState{}
	for name, canonical := range map[string]func() ([]byte, error){
		"node":  func() ([]byte, error) { return node.Canonical() },
		"state": func() ([]byte, error) { return state.Canonical() },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := canonical(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
