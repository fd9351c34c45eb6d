package store_test

import (
	"crypto/rand"
	"errors"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func (w *world) fill(n int) {
	w.t.Helper()
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if _, err := w.s.Append(w.t.Context(), event(w.t)); err != nil {
				w.t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestSignCheckpoint(t *testing.T) {
	w := newWorld(t)
	other := &world{t: t, db: w.db, s: w.db.Open(t, nil)}
	signer, key := logKeys()
	anchor := &memoryAnchor{}
	sizes := []int64{0, 1, 255, 256, 257, 700}
	for i, size := range sizes {
		if i > 0 {
			w.fill(int(size - sizes[i-1]))
		}
		// Two replicas share the anchor; both sign every size, and agree.
		for _, r := range []*world{w, other} {
			text, err := r.s.SignCheckpoint(t.Context(), signer, anchor)
			if err != nil {
				t.Fatal(err)
			}
			cp, err := ledger.OpenCheckpoint(text, key)
			if err != nil || cp.Size != size || cp.Origin != "example.org/zonebroker/main" {
				t.Fatalf("checkpoint = %+v, %v", cp, err)
			}
			if anchor.text != text {
				t.Error("the anchor does not hold what was signed")
			}
			root, found, err := r.s.CheckpointRoot(t.Context(), "main", size)
			if err != nil || !found || root != cp.Root {
				t.Errorf("root of %d = %x, %v, %v", size, root, found, err)
			}
			if latest, err := r.s.LatestCheckpoint(t.Context()); err != nil || latest != text {
				t.Errorf("latest = %q, %v", latest, err)
			}
		}
	}
	if n := query[int](t, w.db, `SELECT count(*) FROM checkpoint`); n != len(sizes) {
		t.Errorf("%d checkpoints of %d sizes", n, len(sizes))
	}
	if _, found, err := w.s.CheckpointRoot(t.Context(), "main", 3); found || err != nil {
		t.Errorf("a checkpoint that was never signed: %v, %v", found, err)
	}
	w.verify(anchor.text)
	if v := w.verify(""); v.Size != 700 || v.Records != 700 {
		t.Errorf("verification = %+v", v)
	}
}

func TestSignCheckpointTakesAnOlderAnchor(t *testing.T) {
	w := newWorld(t)
	signer, _ := logKeys()
	anchor := &memoryAnchor{}
	w.fill(5)
	old, err := w.s.SignCheckpoint(t.Context(), signer, anchor)
	if err != nil {
		t.Fatal(err)
	}
	w.fill(300)
	for range 2 {
		if _, err := w.s.SignCheckpoint(t.Context(), signer, anchor); err != nil {
			t.Fatal(err)
		}
		anchor.text = old
	}
	// A new process proves it from the leaves.
	again := &world{t: t, db: w.db, s: w.db.Open(t, nil)}
	if _, err := again.s.SignCheckpoint(t.Context(), signer, &memoryAnchor{text: old}); err != nil {
		t.Errorf("an older, honest anchor is refused: %v", err)
	}
}

func TestForkStopsSigning(t *testing.T) {
	t.Parallel()
	signer, _ := logKeys()
	skey, _, err := ledger.NewLogKey(rand.Reader, signer.Name())
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(s note.Signer, size int64) string {
		text, err := ledger.Checkpoint{Origin: signer.Name(), Size: size, Root: [32]byte{1}}.Sign(s)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for name, tc := range map[string]struct {
		anchor string
		sql    string
	}{
		"anchor_beyond_the_log":      {anchor: sign(signer, 10_000)},
		"anchor_with_another_root":   {anchor: sign(signer, 3)},
		"anchor_of_another_key":      {anchor: sign(stranger, 3)},
		"anchor_that_is_no_note":     {anchor: "hello"},
		"stored_checkpoint_forged":   {sql: `INSERT INTO checkpoint SELECT log_id, size + 1, root, replace(note, '/main', '/mine') FROM checkpoint`},
		"entry_below_the_anchor":     {sql: `UPDATE log_tile SET data = set_byte(data, 3, get_byte(data, 3) # 1) WHERE level = 0`},
		"tile_gone":                  {sql: `DELETE FROM log_tile WHERE level = 0`},
		"open_entries_gone":          {sql: `DELETE FROM log_entry`},
		"head_rolled_back":           {sql: `UPDATE log_head SET size = 0, frontier = '\x0000000000000000'`},
		"head_gone":                  {sql: `DELETE FROM log_head`},
		"head_of_another_tree":       {sql: `UPDATE log_head SET frontier = set_byte(frontier, 9, get_byte(frontier, 9) # 1)`},
		"head_that_is_no_tree":       {sql: `UPDATE log_head SET frontier = 'x'`},
		"another_root_for_that_size": {sql: `UPDATE checkpoint SET root = sha256('x'); UPDATE checkpoint SET note = (SELECT note FROM checkpoint LIMIT 1)`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.fill(300)
			anchor := &memoryAnchor{}
			if _, err := w.s.SignCheckpoint(t.Context(), signer, anchor); err != nil {
				t.Fatal(err)
			}
			// Another process has to prove everything itself.
			fresh := w.db.Open(t, nil)
			if tc.anchor != "" {
				anchor.text = tc.anchor
			} else {
				w.db.Exec(t, freely+tc.sql)
			}
			if name == "another_root_for_that_size" {
				anchor.text = ""
			}
			_, err := fresh.SignCheckpoint(t.Context(), signer, anchor)
			wantCode(t, err, reason.LedgerFork)
			_, err = fresh.Append(t.Context(), event(t))
			wantCode(t, err, reason.LedgerFork)
			if before := anchor.text; tc.anchor != "" && before != tc.anchor {
				t.Error("the anchor was overwritten")
			}
		})
	}
}

func TestSignCheckpointOfAnotherLog(t *testing.T) {
	w := newWorld(t)
	skey, _, err := ledger.NewLogKey(rand.Reader, "example.org/zonebroker/other")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.s.SignCheckpoint(t.Context(), signer, &memoryAnchor{}); reason.Of(err) != reason.Internal {
		t.Errorf("signed with the key of another log: %v", err)
	}
}

type brokenAnchor struct{ load, store error }

func (a brokenAnchor) Load() (string, error) { return "", a.load }
func (a brokenAnchor) Store(string) error    { return a.store }

func TestAnchorAway(t *testing.T) {
	w := newWorld(t)
	signer, _ := logKeys()
	w.fill(2)
	away := errors.New("away")
	for _, a := range []brokenAnchor{{load: away}, {store: away}} {
		text, err := w.s.SignCheckpoint(t.Context(), signer, a)
		wantCode(t, err, reason.StoreUnavailable)
		if text != "" {
			t.Error("a note left that the anchor does not hold")
		}
	}
	if _, err := w.s.SignCheckpoint(t.Context(), signer, &memoryAnchor{}); err != nil {
		t.Errorf("it does not go on: %v", err)
	}
	if _, err := w.s.Append(t.Context(), event(t)); err != nil {
		t.Error(err)
	}
}

func TestVerifyOpensTheAnchorWithTheKey(t *testing.T) {
	w := newWorld(t)
	w.fill(3)
	skey, _, err := ledger.NewLogKey(rand.Reader, "example.org/zonebroker/main")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	text, err := ledger.Checkpoint{Origin: signer.Name(), Size: 1}.Sign(signer)
	if err != nil {
		t.Fatal(err)
	}
	if got := w.problems(text); !strings.Contains(got, "not a checkpoint that the log's key signed") {
		t.Errorf("problems: %q", got)
	}
}
