package ledger_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// oracle is a tree kept by x/mod/sumdb/tlog.
type oracle struct{ hashes []tlog.Hash }

func (o *oracle) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		if x >= int64(len(o.hashes)) {
			return nil, fmt.Errorf("no hash %d", x)
		}
		out[i] = o.hashes[x]
	}
	return out, nil
}

func (o *oracle) append(t *testing.T, n int64, entry []byte) {
	t.Helper()
	hs, err := tlog.StoredHashes(n, entry, o)
	if err != nil {
		t.Fatal(err)
	}
	o.hashes = append(o.hashes, hs...)
}

func testEntry(i int) ledger.Entry {
	var salt [32]byte
	binary.BigEndian.PutUint64(salt[:], uint64(i))
	id := uuid.UUID{15: byte(i), 14: byte(i >> 8), 6: 0x70}
	return ledger.NewEntry(ledger.Record{ID: id, Salt: salt, Body: []byte(fmt.Sprintf(`{"n":%d}`, i))}, time.UnixMicro(1_700_000_000_000_000+int64(i)))
}

func TestFrontierAgreesWithTlog(t *testing.T) {
	var f ledger.Frontier
	var o oracle
	if f.Root() != sha256.Sum256(nil) {
		t.Error("root of the empty tree is not SHA-256 of nothing")
	}
	for i := range 1100 {
		e := testEntry(i)
		if e.Leaf() != [32]byte(tlog.RecordHash(e[:])) {
			t.Fatalf("leaf %d differs from RFC 6962", i)
		}
		o.append(t, int64(i), e[:])
		before := f.Clone()
		f.Append(e.Leaf())
		want, err := tlog.TreeHash(int64(i+1), &o)
		if err != nil {
			t.Fatal(err)
		}
		if f.Root() != [32]byte(want) || f.Size() != int64(i+1) {
			t.Fatalf("root at size %d differs from tlog", i+1)
		}
		if before.Size() != int64(i) {
			t.Fatalf("clone moved with its origin at %d", i)
		}
		back, err := ledger.UnmarshalFrontier(f.Marshal())
		if err != nil || back.Root() != f.Root() || back.Size() != f.Size() {
			t.Fatalf("frontier of size %d does not survive its encoding: %v", i+1, err)
		}
	}
}

func TestEntryLayout(t *testing.T) {
	salt := [32]byte{1}
	id := uuid.MustParse("01890000-0000-7000-8000-0000000000ff")
	at := time.UnixMicro(1_700_000_000_123_456).UTC()
	e := ledger.NewEntry(ledger.Record{ID: id, Salt: salt, Body: []byte("{}")}, at)
	commit := append([]byte("zonebroker-leaf-v1\x00\x00\x00\x20"), salt[:]...)
	commit = append(commit, "\x00\x00\x00\x02{}"...)
	sum := sha256.Sum256(commit)
	want := append([]byte{1}, id[:]...)
	want = binary.BigEndian.AppendUint64(want, 1_700_000_000_123_456)
	want = append(want, sum[:]...)
	if string(e[:]) != string(want) || len(want) != 57 {
		t.Errorf("entry = %x\nwant    %x", e, want)
	}
	if e.ID() != id || !e.RecordedAt().Equal(at) {
		t.Errorf("entry reads back as %s, %s", e.ID(), e.RecordedAt())
	}
}

func logKey(t testing.TB, name string) (note.Signer, note.Verifier) {
	t.Helper()
	skey, vkey, err := ledger.NewLogKey(zeroReader{}, name)
	if err != nil {
		t.Fatal(err)
	}
	signer, verifier, err := ledger.ParseLogKey(skey + "\n")
	if err != nil {
		t.Fatal(err)
	}
	want, err := note.NewVerifier(vkey)
	if err != nil || want.KeyHash() != verifier.KeyHash() {
		t.Fatalf("derived verifier is not that of the key pair: %v", err)
	}
	return signer, verifier
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestCheckpointRoundTrip(t *testing.T) {
	origin := ledger.Origin("example.org", "main")
	signer, verifier := logKey(t, origin)
	c := ledger.Checkpoint{Origin: origin, Size: 70_700, Root: [32]byte{9, 8, 7}}
	text, err := c.Sign(signer)
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.Sign(signer)
	if err != nil || again != text {
		t.Errorf("signing the same state gives another note: %v", err)
	}
	got, err := ledger.OpenCheckpoint(text, verifier)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c, got); diff != "" {
		t.Error(diff)
	}
	if !strings.HasPrefix(text, "example.org/zonebroker/main\n70700\n") {
		t.Errorf("note begins with %q", text[:40])
	}
}

func TestCheckpointRefuses(t *testing.T) {
	origin := ledger.Origin("example.org", "main")
	signer, verifier := logKey(t, origin)
	good, err := ledger.Checkpoint{Origin: origin, Size: 12, Root: [32]byte{1}}.Sign(signer)
	if err != nil {
		t.Fatal(err)
	}
	root := strings.Split(good, "\n")[2]
	sign := func(body string) string {
		raw, err := note.Sign(&note.Note{Text: body}, signer)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	_, other := logKey(t, "elsewhere/zonebroker/main")
	for name, tc := range map[string]struct {
		text string
		key  note.Verifier
	}{
		"other_key":          {good, other},
		"size_edited":        {strings.Replace(good, "\n12\n", "\n13\n", 1), verifier},
		"leading_zero":       {sign(origin + "\n012\n" + root + "\n"), verifier},
		"negative_size":      {sign(origin + "\n-1\n" + root + "\n"), verifier},
		"plus_size":          {sign(origin + "\n+1\n" + root + "\n"), verifier},
		"extension_line":     {sign(origin + "\n12\n" + root + "\nmore\n"), verifier},
		"short_root":         {sign(origin + "\n12\nAAAA\n"), verifier},
		"no_origin":          {sign("\n12\n" + root + "\n"), verifier},
		"unsigned":           {good[:strings.Index(good, "\n\n")+2], verifier},
		"too_long":           {good + strings.Repeat("x", 20_000), verifier},
		"empty":              {"", verifier},
		"loose_base64_spare": {sign(origin + "\n12\n" + strings.Replace(root, "AAA=", "AAB=", 1) + "\n"), verifier},
	} {
		t.Run(name, func(t *testing.T) {
			if c, err := ledger.OpenCheckpoint(tc.text, tc.key); err == nil {
				t.Errorf("accepted as %+v", c)
			}
		})
	}
	if _, err := (ledger.Checkpoint{Origin: "a\nb", Size: 1}).Sign(signer); err == nil {
		t.Error("an origin with a line break was signed")
	}
}

func TestParseLogKeyRefuses(t *testing.T) {
	_, vkey, err := ledger.NewLogKey(zeroReader{}, "a/zonebroker/b")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "PRIVATE+KEY+x", vkey} {
		if _, _, err := ledger.ParseLogKey(text); err == nil {
			t.Errorf("%q was taken for a private key", text)
		}
	}
}

func FuzzOpenCheckpoint(f *testing.F) {
	origin := ledger.Origin("example.org", "main")
	signer, verifier := logKey(f, origin)
	good, err := ledger.Checkpoint{Origin: origin, Size: 3, Root: [32]byte{1}}.Sign(signer)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add("")
	f.Add(origin + "\n3\nAAAA\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ledger.OpenCheckpoint(text, verifier)
		if err != nil {
			return
		}
		// Whatever opens says what the one good note says: nothing else was signed.
		if again, err := c.Sign(signer); err != nil || again != good {
			t.Errorf("%q opened as %+v", text, c)
		}
	})
}

func FuzzUnmarshalFrontier(f *testing.F) {
	var fr ledger.Frontier
	f.Add(fr.Marshal())
	for i := range 7 {
		fr.Append(testEntry(i).Leaf())
		f.Add(fr.Marshal())
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, err := ledger.UnmarshalFrontier(b)
		if err != nil {
			return
		}
		if string(fr.Marshal()) != string(b) {
			t.Errorf("%x reads as %x", b, fr.Marshal())
		}
		size := fr.Size()
		fr.Append([32]byte{1})
		if _ = fr.Root(); fr.Size() != size+1 {
			t.Error("append does not grow the tree by one")
		}
	})
}
