package store_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/store"
)

// erased is a log of 600 records and more, from which a node was erased, and the
// evidence of that.
func erased(t *testing.T) ledger.ErasureEvidence {
	t.Helper()
	w := newWorld(t)
	a, _ := w.attested()
	for range 300 {
		w.append(event(t))
	}
	signer, key := logKeys()
	anchor := &memoryAnchor{}
	before, err := w.s.SignCheckpoint(t.Context(), signer, anchor)
	if err != nil {
		t.Fatal(err)
	}
	a = w.renew(a, ledger.VerdictAllow)
	o := store.NewOwner(w.s, w.db.OwnerDSN)
	plan, err := o.ErasurePlan(t.Context(), a.Node.ID)
	if err != nil {
		t.Fatal(err)
	}
	w.erase(a, plan)
	if _, err := o.Erase(t.Context(), a.Node.ID); err != nil {
		t.Fatal(err)
	}
	after, err := w.s.SignCheckpoint(t.Context(), signer, anchor)
	if err != nil {
		t.Fatal(err)
	}
	records, err := w.s.Records(t.Context(), ledger.Query{Node: a.Node.ID, Limit: 500})
	if err != nil || len(records) != 1 || records[0].Type != ledger.TypeErased {
		t.Fatalf("records of the node: %+v, %v", records, err)
	}
	r := records[0]
	spans, err := plan.Missing.Spans()
	if err != nil {
		t.Fatal(err)
	}
	var indexes []int64
	for _, s := range spans {
		for i := s.First; i <= s.Last; i++ {
			indexes = append(indexes, i)
		}
	}
	older, err := ledger.OpenCheckpoint(before, key)
	if err != nil {
		t.Fatal(err)
	}
	newer, err := ledger.OpenCheckpoint(after, key)
	if err != nil {
		t.Fatal(err)
	}
	list, err := plan.Missing.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	e := ledger.ErasureEvidence{
		Node: a.Node.ID, Record: r.ID, Index: r.Index, RecordedAt: r.RecordedAt, Salt: r.Salt, List: list, Before: before, After: after,
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, r.Body, "", "  "); err != nil {
		t.Fatal(err)
	}
	e.Body = pretty.Bytes()
	if e.Proof, err = w.s.Prove(t.Context(), newer.Size, older.Size, append(indexes, r.Index)); err != nil {
		t.Fatal(err)
	}
	return e
}

func TestErasureProof(t *testing.T) {
	t.Parallel()
	good := erased(t)
	_, key := logKeys()
	out, err := ledger.CheckErasure(good, key)
	if err != nil || out.Listed != 10 || out.Grant.By != "uid:0" || out.After.Size <= out.Before.Size {
		t.Fatalf("%+v, %v", out, err)
	}
	short := good
	short.LeftOut, short.Proof.Entries = 4, short.Proof.Entries[4:]
	if out, err := ledger.CheckErasure(short, key); err != nil || out.Listed != 10 {
		t.Errorf("with four left out: %+v, %v", out, err)
	}
	for name, tc := range map[string]struct {
		change func(*ledger.ErasureEvidence)
		want   string
	}{
		"another node":     {func(e *ledger.ErasureEvidence) { e.Node = "x" }, "not of the erasure of this node"},
		"another list":     {func(e *ledger.ErasureEvidence) { e.List = append(slices.Clone(e.List), ' ') }, "another list"},
		"another record":   {func(e *ledger.ErasureEvidence) { e.Body = bytes.Replace(e.Body, []byte("uid:0"), []byte("uid:1"), 1) }, "another record of the erasure"},
		"another salt":     {func(e *ledger.ErasureEvidence) { e.Salt[0]++ }, "another record of the erasure"},
		"an entry less":    {func(e *ledger.ErasureEvidence) { e.Proof.Entries = e.Proof.Entries[1:] }, "10 entries are proved, want 11"},
		"an edited entry":  {func(e *ledger.ErasureEvidence) { e.Proof.Entries[2].Entry[40]++ }, "is not in the log"},
		"a moved entry":    {func(e *ledger.ErasureEvidence) { e.Proof.Entries[2].Index++ }, "in the place of"},
		"no consistency":   {func(e *ledger.ErasureEvidence) { e.Proof.Consistency = nil }, "does not extend"},
		"an unsigned tree": {func(e *ledger.ErasureEvidence) { e.After = strings.Replace(e.After, "\n3", "\n4", 1) }, "checkpoint of after"},
	} {
		t.Run(name, func(t *testing.T) {
			e := good
			e.Proof.Entries = slices.Clone(good.Proof.Entries)
			tc.change(&e)
			if _, err := ledger.CheckErasure(e, key); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}
