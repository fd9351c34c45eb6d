package store_test

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// Commits for benchmarks, as large as those of brokers. They are made before the
// clock runs: a broker's own work is measured elsewhere.

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

// plainRecord is a record of about a kilobyte that touches no node, as store.md
// measured: what the log itself can do.
func plainRecord(t testing.TB) ledger.Commit {
	t.Helper()
	g := ledger.Grant{Type: "test.event", ID: recordID(t), By: "uid:0", Subject: randomHex(400)}
	rec, err := g.Record(salt())
	if err != nil {
		t.Fatal(err)
	}
	return ledger.Commit{Record: rec}
}

// benchNode makes renewals of one node, each on the one before. Of what Postgres
// says about a commit it needs nothing: versions count up.
type benchNode struct {
	snap  ledger.Snapshot
	made  int
	since *ledger.Interval
}

// driftEvery is how seldom a machine shows something else than the last time.
const driftEvery = 200

// renewal is the next commit of the node: quote, signature, certification and key
// of its own, PCRs that it has shown before, an X.509-SVID, and drift seldom.
func (n *benchNode) renewal(t testing.TB) ledger.Commit {
	t.Helper()
	c := attestation(t, n.snap, ledger.VerdictAllow)
	n.made++
	pcrs := fmt.Appendf(nil, `{"4":%q}`, hex.EncodeToString(digestOf("pcr", n.made/driftEvery)))
	c.State.PCRs = pcrs
	c.Drift = ledger.Changes(n.snap.State, *c.State)
	c.Evidence = n.evidence(pcrs)
	c.SVIDs[0].TBSSHA256, c.SVIDs[0].CAKeyID, c.SVIDs[0].Serial = randomHex(32), hex.EncodeToString(digestOf("ca", 0)), randomHex(16)
	c.Record = changedBody(t, c.Record, func(a *ledger.Attestation) {
		a.Nonce, a.Select, a.SPKISHA256, a.Appraisal = randomHex(32), "ff0700", randomHex(32), "sha256:"+randomHex(32)
		a.TrustRoots, a.Policy.Hash = "sha256:"+hex.EncodeToString(digestOf("roots", 0)), "sha256:"+hex.EncodeToString(digestOf("policy", 1))
		a.Prev, a.IssuedAt, a.SVIDs, a.Drift = n.snap.State.Last.String(), a.AttestedAt-20, c.SVIDs, c.Drift
		a.Evidence = nil
		for _, p := range c.Evidence {
			a.Evidence = append(a.Evidence, ledger.EvidenceID{Kind: p.Kind, SHA256: hex.EncodeToString(p.Digest[:])})
		}
	})
	n.earn(&c, pcrs)
	c.LastGood = n.snap.State.LastOKAt
	c.State.Version = n.snap.State.Version + 1
	n.snap.State = *c.State
	return c
}

// earn gives the commit the interval that it goes on with, and the measurement
// where it is a new one.
func (n *benchNode) earn(c *ledger.Commit, pcrs []byte) {
	now, measured := c.State.AttestedAt, sha256.Sum256(pcrs)
	if n.since == nil || n.since.Measured != measured {
		if n.since != nil {
			closed := *n.since
			closed.Until, closed.Ended = now, ledger.EndedChanged
			c.Closed = &closed
		}
		n.since = &ledger.Interval{Node: n.snap.Node.ID, Zone: c.State.Zone, Measured: measured, PolicyVersion: 1, From: now, First: c.Record.ID}
		c.Measurement = &ledger.Measurement{Digest: measured, Facts: pcrs}
	} else {
		n.since.Renewals++
	}
	n.since.Until, n.since.Expires, n.since.Last = c.State.FreshUntil, now.Add(time.Hour), c.Record.ID
	open := *n.since
	c.Interval = &open
}

func digestOf(name string, i int) []byte {
	d := sha256.Sum256(fmt.Appendf(nil, "%s %d", name, i))
	return d[:]
}

func (n *benchNode) evidence(pcrs []byte) []ledger.EvidencePart {
	part := func(kind string, size int) ledger.EvidencePart {
		b := make([]byte, size)
		_, _ = rand.Read(b)
		return ledger.EvidencePart{Kind: kind, Digest: sha256.Sum256(b), Bytes: b}
	}
	// Sizes of P-256 keys (TPM 2.0 Part 2, TPMS_ATTEST and TPMT_SIGNATURE).
	parts := []ledger.EvidencePart{
		part(ledger.PartQuote, 145), part(ledger.PartSignature, 72),
		{Kind: ledger.PartPCRs, Digest: sha256.Sum256(pcrs), Bytes: pcrs},
		part(ledger.PartCertify, 410), part(ledger.PartSPKI, 91),
	}
	if n.snap.State.Version == 0 {
		parts = append(parts, part(ledger.PartAKPublic, 86), part(ledger.PartEKPublic, 122), part(ledger.PartEKCertificate, 1100),
			ledger.EvidencePart{Kind: ledger.PartEventLog, Digest: sha256.Sum256(fleetLog()), Bytes: fleetLog()})
	}
	return parts
}

// fleetLog is an event log of 32 kB that a fleet shares.
var fleetLog = sync.OnceValue(func() []byte {
	var out []byte
	for i := 0; len(out) < 32<<10; i++ {
		out = append(append(out, digestOf("event", i)...), "/boot/efi/EFI/debian/grubx64.efi"...)
	}
	return out
})

// benchCommits hands out the commits of one caller, which were made before.
type benchCommits func(caller int) []ledger.Commit

// makeCommits makes n commits for callers, in equal shares.
func (w *world) makeCommits(kind string, callers, n int) benchCommits {
	w.t.Helper()
	share := (n + callers - 1) / callers
	all := make([][]ledger.Commit, callers)
	for i := range all {
		switch kind {
		case "record":
			for range share {
				all[i] = append(all[i], plainRecord(w.t))
			}
		case "renewal", "single", "insert":
			node := &benchNode{snap: w.enrol(i)}
			for range share {
				all[i] = append(all[i], node.renewal(w.t))
			}
		case "new":
			for j := range share {
				node := testNode(i*share+j, 0, ledger.Admission{ID: uuid.New()})
				c := (&benchNode{snap: ledger.Snapshot{Node: node}}).renewal(w.t)
				c.Node = &node
				all[i] = append(all[i], c)
			}
		}
	}
	return func(caller int) []ledger.Commit { return all[caller] }
}
