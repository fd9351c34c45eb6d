package store_test

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"os"
	"testing"

	"github.com/google/uuid"
	"github.com/zonebroker/zonebroker/store"
)

var updateDictionary = flag.Bool("update-dictionary", false, "make body1.dict again; rows that were packed with another one cannot be read any more")

// dictionary1 is the digest of the dictionary that rows were packed with.
const dictionary1 = "ddba5cdc1f2be336ce3ef259f25f0f28bdcf3e9fd5ceaac3ec62b3a98db1b56b"

// TestDictionary: dictionary 1 stays what it is, because rows are read with it,
// and is made from bodies that brokers write.
func TestDictionary(t *testing.T) {
	if *updateDictionary {
		if err := os.WriteFile("body1.dict", makeDictionary(t), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Skip("made body1.dict; run again")
	}
	if got := sha256.Sum256(store.BodyDictionary); hexOf(got[:]) != dictionary1 {
		t.Errorf("dictionary 1 has digest %x; rows were packed with %s", got, dictionary1)
	}
}

// makeDictionary puts what bodies have in common into one, the commonest last.
func makeDictionary(t *testing.T) []byte {
	var out []byte
	for _, r := range newBodySource(1).mix(t) {
		short, ok := store.Shorten(r.Body, r.ID, string(r.Node))
		if !ok {
			t.Fatal("a body holds a control character")
		}
		out = append(out, withoutRandom(short)...)
	}
	return out
}

// withoutRandom leaves the marks and takes out what is behind them, but for the
// room that it needs: matches keep their distance.
func withoutRandom(short []byte) []byte {
	out := bytes.Clone(short)
	for i := 0; i < len(out); i++ {
		n := 0
		switch out[i] {
		case 1:
			n = 32
		case 2, 3:
			n = 16
		case 6, 7, 8:
			for n = 1; short[i+n] >= 0x80; n++ {
			}
		}
		clear(out[i+1 : i+1+n])
		i += n
	}
	return out
}

func TestBodiesReadBack(t *testing.T) {
	s := newBodySource(7)
	sizes := map[string][2]int{}
	for range 100 {
		for i, r := range s.mix(t) {
			packed := store.PackBody(r.Body, r.ID, string(r.Node))
			back, err := store.UnpackBody(packed, r.ID, string(r.Node))
			if err != nil || !bytes.Equal(back, r.Body) {
				t.Fatalf("%s comes back as %s: %v", r.Body, back, err)
			}
			name := []string{"grant", "issuance", "denial", "enrolment", "renewal"}[i]
			was := sizes[name]
			sizes[name] = [2]int{was[0] + len(r.Body), was[1] + len(packed)}
		}
	}
	for name, n := range sizes {
		t.Logf("%s: %d bytes packed as %d", name, n[0]/100, n[1]/100)
	}
	if got := sizes["renewal"][1] / 100; got > 740 {
		t.Errorf("a renewal takes %d bytes", got)
	}
}

func FuzzBodyReadsBack(f *testing.F) {
	id := uuid.MustParse("01a2001e-ccf2-79e9-a63a-a291d4d23023")
	s := newBodySource(3)
	for _, r := range s.mix(f) {
		f.Add(r.Body, string(r.Node))
	}
	f.Add([]byte(`"01a2001e-ccf2-79e9-a63a-a291d4d23023 01A2001e-ccf2-79e9-a63a-a291d4d23023"`), "")
	f.Add([]byte("a\x05b\x00"), "a")
	f.Fuzz(func(t *testing.T, body []byte, node string) {
		packed := store.PackBody(body, id, node)
		back, err := store.UnpackBody(packed, id, node)
		if len(body) <= 1<<20 && (err != nil || !bytes.Equal(back, body)) {
			t.Fatalf("%q comes back as %q: %v", body, back, err)
		}
		// Whatever somebody wrote into the column ends in an error or in a body.
		if out, err := store.UnpackBody(body, id, node); err == nil && len(out) > 1<<20 {
			t.Fatalf("%d bytes came out of %d", len(out), len(body))
		}
	})
}

func BenchmarkPackBody(b *testing.B) {
	s := newBodySource(5)
	r := packable(b, s.attestation())
	var packed []byte
	b.Run("pack", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			packed = store.PackBody(r.Body, r.ID, string(r.Node))
		}
		b.ReportMetric(float64(len(packed)), "bytes")
	})
	b.Run("unpack", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := store.UnpackBody(packed, r.ID, string(r.Node)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
