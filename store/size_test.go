package store_test

import (
	"crypto/sha256"
	"sync"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// maxRenewal is what a renewal may take in the table of decisions, indexes
// included, among two thousand: in so few rows, half-filled pages of indexes
// weigh more than among millions.
const maxRenewal = 1250

// TestRenewalSize bounds what the decision of a renewal takes with all of its
// indexes. Its evidence and its SVID have rows and periods of their own.
func TestRenewalSize(t *testing.T) {
	w := newWorld(t)
	const nodes, rounds = 40, 50
	src := newBodySource(11)
	var mu sync.Mutex
	renewal := func(snap ledger.Snapshot) ledger.Commit {
		c := attestation(t, snap, ledger.VerdictAllow)
		mu.Lock()
		defer mu.Unlock()
		a := src.attestation()
		a.ID, a.Node, a.Zone = c.Record.ID, snap.Node.ID, "payments"
		at := time.Now().UnixMilli()
		a.IssuedAt, a.AttestedAt, a.JudgedAt, a.FreshUntil = at-9, at-9, at, at+300_000
		a.SVIDs[0].NotBefore, a.SVIDs[0].NotAfter = at/1000-60, at/1000+3600
		a.SVIDs[0].SPIFFEID = "spiffe://prod.example.com/zone/payments/node/" + string(a.Node)
		c.Record = packable(t, a)
		c.Record.Salt = salt()
		c.SVIDs = a.SVIDs
		quote, signature, certify, spki := src.bytes(145), src.bytes(262), src.bytes(480), src.bytes(91)
		c.Evidence = nil
		for kind, b := range map[string][]byte{
			ledger.PartQuote: quote, ledger.PartSignature: signature, ledger.PartCertify: certify, ledger.PartSPKI: spki,
		} {
			c.Evidence = append(c.Evidence, ledger.EvidencePart{Kind: kind, Digest: sha256.Sum256(b), Bytes: b})
		}
		return c
	}
	snaps := make([]ledger.Snapshot, nodes)
	for i := range snaps {
		snaps[i] = w.enrol(i)
	}
	tables := map[string]string{"attestation": "", "evidence_part": "", "svid": ""}
	size := func(table string) int64 {
		return query[int64](t, w.db, `SELECT coalesce(sum(pg_total_relation_size(relid)), 0)::bigint FROM pg_partition_tree('`+table+`')`)
	}
	before := map[string]int64{}
	for table := range tables {
		before[table] = size(table)
	}
	var wg sync.WaitGroup
	for i := range snaps {
		wg.Go(func() {
			for range rounds {
				c := renewal(snaps[i])
				p, err := w.s.Append(t.Context(), c)
				if err != nil {
					t.Error(err)
					return
				}
				c.State.Version = p.Version
				snaps[i].State = *c.State
			}
		})
	}
	wg.Wait()
	for table := range tables {
		took := (size(table) - before[table]) / (nodes * rounds)
		t.Logf("%s: %d bytes a renewal", table, took)
		if table == "attestation" && took > maxRenewal {
			t.Errorf("a renewal takes %d bytes with its indexes, at most %d", took, maxRenewal)
		}
	}
}
