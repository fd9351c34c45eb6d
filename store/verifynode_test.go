package store

import (
	"encoding/hex"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// TestWhoseKeyANodeHas: a denial gives nobody the key of a machine that documents
// name; every other record names the key that the node has.
func TestWhoseKeyANodeHas(t *testing.T) {
	key := []byte("key")
	for name, c := range map[string]struct {
		kind, verdict string
		accepted      uuid.UUID
		released      bool
		key           string
		same          bool
	}{
		"accepted":                       {"gce", ledger.VerdictAllow, uuid.New(), false, "key", true},
		"accepted, another key":          {"gce", ledger.VerdictAllow, uuid.New(), false, "other", false},
		"accepted, taken away":           {"gce", ledger.VerdictAllow, uuid.New(), true, "key", false},
		"only denied":                    {"gce", ledger.VerdictDeny, uuid.Nil, true, "key", true},
		"only denied, another key":       {"gce", ledger.VerdictDeny, uuid.Nil, false, "other", false},
		"denied after an acceptance":     {"gce", ledger.VerdictDeny, uuid.New(), false, "key", true},
		"taken away behind a denial":     {"gce", ledger.VerdictDeny, uuid.New(), true, "key", false},
		"an EK denied":                   {ledger.RootEK, ledger.VerdictDeny, uuid.Nil, false, "key", true},
		"an EK denied, its key is taken": {ledger.RootEK, ledger.VerdictDeny, uuid.Nil, true, "key", false},
	} {
		n := ledger.Node{RootKind: c.kind, AKName: key}
		if c.released {
			n.Release(uuid.New())
		}
		f := nodeFacts{accepted: c.accepted, last: ledger.Attestation{
			RootKind: c.kind, RootHash: hex.EncodeToString(n.RootHash[:]), Verdict: c.verdict, AKName: hex.EncodeToString([]byte(c.key)),
		}}
		if same := !slices.Contains(f.differs(n, nil), "AK"); same != c.same {
			t.Errorf("%s: the key is that of its records: %v", name, same)
		}
	}
}
