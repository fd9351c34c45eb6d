package store_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/store/storetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestRowHMACFormula pins the bytes that a row's HMAC covers: replicas of two
// releases must agree on them.
func TestRowHMACFormula(t *testing.T) {
	w := newWorld(t)
	snap := w.enrol(1)
	raw, err := snap.Node.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	key := w.db.Config().RowKey
	h := hmac.New(sha256.New, key[:])
	h.Write([]byte("zonebroker-row-v1\x00\x00\x00\x04node"))
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(raw))))
	h.Write(raw)
	if got := query[[]byte](t, w.db, `SELECT mac FROM node`); !hmac.Equal(got, h.Sum(nil)) {
		t.Errorf("mac = %x", got)
	}
}

// TestTimeNeverGoesBack: a database whose clock was set back goes on at the time
// of its last record.
func TestTimeNeverGoesBack(t *testing.T) {
	w := newWorld(t)
	w.append(event(t))
	w.db.Exec(t, `UPDATE log_head SET recorded_at = now() + interval '1 hour'`)
	first, second := w.append(event(t)), w.append(event(t))
	if first.RecordedAt.Before(time.Now().Add(50*time.Minute)) || second.RecordedAt.Before(first.RecordedAt) {
		t.Errorf("recorded at %s and %s", first.RecordedAt, second.RecordedAt)
	}
	w.verify("")
}

// TestWritersTakeTurnsAcrossTiles: the open tail that a writer remembers is stale
// once another one wrote.
func TestWritersTakeTurnsAcrossTiles(t *testing.T) {
	w := newWorld(t)
	other := &world{t: t, db: w.db, s: w.db.Open(t, nil)}
	for range 25 {
		w.fill(13)
		other.fill(11)
	}
	if v := w.verify(""); v.Size != 600 {
		t.Errorf("size = %d", v.Size)
	}
	if n := query[int](t, w.db, `SELECT sum(length(entries)) / 57 FROM log_entry`); n != 600%256 {
		t.Errorf("%d entries are open", n)
	}
}

// TestLoserKeepsTokenUnused: whoever loses the compare-and-set must not use up a
// join token, even where others of the batch win.
func TestLoserKeepsTokenUnused(t *testing.T) {
	db := storetest.New(t)
	w := &world{t: t, db: db, s: db.Open(t, nil)}
	snap := w.enrol(1)
	jt := joinToken(t)
	w.append(tokenCommit(t, jt))
	gate := make(chan struct{})
	s := db.Open(t, gated(gate))
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := s.Append(t.Context(), event(t)); err != nil {
			t.Error(err)
		}
	})
	time.Sleep(50 * time.Millisecond) // the writer holds the first batch now
	for range 3 {
		wg.Go(func() {
			if _, err := s.Append(t.Context(), event(t)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Go(func() {
		n := snap.Node
		c := attestation(t, ledger.Snapshot{Node: n}, ledger.VerdictAllow)
		c.Node, c.JoinToken = &n, &jt.ID
		_, err := s.Append(t.Context(), c)
		wantCode(t, err, reason.ChallengeSpent)
	})
	time.Sleep(50 * time.Millisecond)
	close(gate)
	wg.Wait()
	if got, err := w.s.JoinTokenByHash(t.Context(), jt.SecretHash, time.Now()); got == nil || err != nil {
		t.Errorf("the token is gone: %v", err)
	}
	w.verify("")
}

// TestVerifyNamesTimeThatGoesBack: a broker that dates a record before the one
// in front of it is found even where its log is whole.
func TestVerifyNamesTimeThatGoesBack(t *testing.T) {
	w := newWorld(t)
	w.fill(3)
	rows, err := w.s.Records(t.Context(), ledger.Query{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	at := rows[0].RecordedAt.Add(-time.Hour)
	e := ledger.NewEntry(rows[0].Record, at)
	w.db.Exec(t,
		freely+`UPDATE attestation SET recorded_at = recorded_at - interval '1 hour' WHERE log_idx = 2`,
		freely+`UPDATE log_entry SET entries = overlay(entries placing '\x`+hexOf(e[:])+`'::bytea from length(entries) - 56)
			WHERE first_idx = (SELECT max(first_idx) FROM log_entry)`)
	wantProblem(t, w, "index 2 record "+rows[0].ID.String()+": recorded before")
}

// TestT60_RewrittenInPlace: record, entry and head are changed so that they agree
// with one another. What was signed before tells.
func TestT60_RewrittenInPlace(t *testing.T) {
	w := newWorld(t)
	signer, _ := logKeys()
	anchor := &memoryAnchor{}
	w.fill(3)
	if _, err := w.s.SignCheckpoint(t.Context(), signer, anchor); err != nil {
		t.Fatal(err)
	}
	rows, err := w.s.Records(t.Context(), ledger.Query{})
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(rows)
	rows[1].Salt = [32]byte{9}
	var f ledger.Frontier
	var entries []byte
	for _, r := range rows {
		e := ledger.NewEntry(r.Record, r.RecordedAt)
		f.Append(e.Leaf())
		entries = append(entries, e[:]...)
	}
	w.db.Exec(t,
		freely+`UPDATE attestation SET salt = '\x`+hexOf(rows[1].Salt[:])+`' WHERE log_idx = 1`,
		freely+`DELETE FROM log_entry WHERE first_idx > 0`,
		freely+`UPDATE log_entry SET entries = '\x`+hexOf(entries)+`'`,
		freely+`UPDATE log_head SET frontier = '\x`+hexOf(f.Marshal())+`'`)
	stored := "the stored checkpoint of size 3 has another root"
	wantProblem(t, w, stored)
	if got := w.problems(anchor.text); !strings.Contains(got, "the log anchor of size 3 has another root") {
		t.Errorf("the anchor does not tell:\n%s", got)
	}
	w.db.Exec(t, freely+`DELETE FROM checkpoint`)
	if got := w.problems(""); got != "" {
		t.Errorf("nothing outside is asked, and still: %s", got)
	}
	_, err = w.s.SignCheckpoint(t.Context(), signer, anchor)
	wantCode(t, err, reason.LedgerFork)
}

// TestAnchorSignatureCounts: a note that names our key without its signature is
// no anchor, even where it says the truth.
func TestAnchorSignatureCounts(t *testing.T) {
	w := newWorld(t)
	signer, key := logKeys()
	w.fill(3)
	text, err := w.s.SignCheckpoint(t.Context(), signer, &memoryAnchor{})
	if err != nil {
		t.Fatal(err)
	}
	cp, err := ledger.OpenCheckpoint(text, key)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := cp.Sign(mute{signer})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.db.Open(t, nil).SignCheckpoint(t.Context(), signer, &memoryAnchor{text: forged})
	wantCode(t, err, reason.LedgerFork)
}

type mute struct{ note.Signer }

func (mute) Sign([]byte) ([]byte, error) { return make([]byte, 64), nil }
