package broker_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/issuer"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// bundleOf returns sequence and number of keys of the bundle.
func bundleOf(t testing.TB, b *broker.Broker) (sequence int64, keys int) {
	t.Helper()
	raw, err := b.Bundle(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Sequence int64             `json:"spiffe_sequence"`
		Hint     int               `json:"spiffe_refresh_hint"`
		Keys     []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil || doc.Hint != int(issuer.DefaultRefreshHint/time.Second) {
		t.Fatalf("bundle %s: %v", raw, err)
	}
	return doc.Sequence, len(doc.Keys)
}

// signedBy returns the key id of the CA that signs the next SVID.
func signedBy(r *rig, h *host) string {
	r.t.Helper()
	h.renew()
	return r.lastAttestation(h.node).SVIDs[0].CAKeyID
}

// TestInvariant12_CAIsPublishedBeforeItSigns: the next CA stands in log, bundle
// and key rows before anybody meets it in a chain.
func TestInvariant12_CAIsPublishedBeforeItSigns(t *testing.T) {
	r := newRig(t)
	h := r.enrolled()
	first := signedBy(r, h)
	rotate := func() { r.must(r.b.RotateCA(t.Context())) }
	rotate()
	if len(r.store.keys) != 1 || r.store.keys[0].ID != first {
		t.Fatalf("%d keys at the start", len(r.store.keys))
	}
	sequence, n := bundleOf(t, r.b)
	r.wait(12*time.Hour - 2*time.Minute)
	rotate()
	if len(r.store.keys) != 1 {
		t.Error("rotated before half the life of the CA")
	}
	r.wait(2 * time.Minute)
	rotate()
	if len(r.store.keys) != 2 || r.store.keys[1].ID == first || r.store.keys[1].Replica != "a" {
		t.Fatalf("%d keys at half the life", len(r.store.keys))
	}
	last := r.store.records[len(r.store.records)-1]
	var g ledger.Grant
	r.must(json.Unmarshal(last.Body, &g))
	hash, err := ledger.RowHash(r.store.keys[1])
	r.must(err)
	want := ledger.Grant{
		Type: ledger.TypeKeyPublished, ID: last.ID, By: "replica:a", Subject: r.store.keys[1].ID, RowHash: hash, At: r.now().UnixMilli(),
	}
	if diff := cmp.Diff(want, g); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	if s, k := bundleOf(t, r.b); n != 1 || k != 2 || s <= sequence {
		t.Errorf("bundle went from sequence %d with %d keys to %d with %d", sequence, n, s, k)
	}
	if by := signedBy(r, h); by != first {
		t.Error("a CA signs that readers had no time to fetch")
	}
	rotate()
	r.wait(issuer.PublishAhead - 2*time.Minute)
	rotate()
	if by := signedBy(r, h); by != first {
		t.Error("a CA signs a moment before readers know it")
	}
	r.wait(time.Minute)
	rotate()
	if by := signedBy(r, h); by != r.store.keys[1].ID {
		t.Error("the next CA is not in use")
	}
	rotate()
	if len(r.store.keys) != 2 {
		t.Error("a third CA was made at once")
	}
}

// TestInvariant12_CAThatIsNotRecordedNeverSigns, and the replica goes on with
// the one it has.
func TestInvariant12_CAThatIsNotRecordedNeverSigns(t *testing.T) {
	r := newRig(t)
	h := r.enrolled()
	first := signedBy(r, h)
	r.wait(13 * time.Hour)
	r.store.failing("Append", reason.New(reason.StoreUnavailable, "away"))
	if err := r.b.RotateCA(t.Context()); reason.Of(err) != reason.StoreUnavailable {
		t.Errorf("%v", err)
	}
	r.store.failing("Append", nil)
	r.random.fail(true)
	if err := r.b.RotateCA(t.Context()); err == nil || len(r.store.keys) != 1 {
		t.Errorf("a CA without random bytes: %v", err)
	}
	r.random.fail(false)
	r.wait(20 * time.Minute)
	r.store.failing("Keys", reason.New(reason.StoreUnavailable, "away"))
	if err := r.b.RotateCA(t.Context()); reason.Of(err) != reason.StoreUnavailable {
		t.Errorf("a bundle that could not be made: %v", err)
	}
	r.store.failing("Keys", nil)
	if by := signedBy(r, h); by != first || len(r.store.keys) != 2 {
		t.Errorf("%d keys, and another one signs", len(r.store.keys))
	}
	// It is published now; no other is made meanwhile.
	r.wait(issuer.PublishAhead)
	r.must(r.b.RotateCA(t.Context()))
	if by := signedBy(r, h); by != r.store.keys[1].ID || len(r.store.keys) != 2 {
		t.Errorf("%d keys, and the published one does not sign", len(r.store.keys))
	}
}

// TestCAThatEndedUnusedIsReplaced: a replica that slept long makes a new CA and
// uses it at once: nothing else could sign.
func TestCAThatEndedUnusedIsReplaced(t *testing.T) {
	r := newRig(t)
	h := r.enrolled()
	r.wait(13 * time.Hour)
	r.must(r.b.RotateCA(t.Context()))
	r.wait(30 * time.Hour)
	if err := r.b.RotateCA(t.Context()); reason.Of(err) != reason.IssuerUnavailable {
		t.Errorf("a CA past its end was put to use: %v", err)
	}
	r.must(r.b.RotateCA(t.Context()))
	if by := signedBy(r, h); len(r.store.keys) != 3 || by != r.store.keys[2].ID {
		t.Errorf("%d keys", len(r.store.keys))
	}
}

// TestBundle: only live keys, and a sequence that rises with every change.
func TestBundle(t *testing.T) {
	r := newRig(t)
	other, _ := r.newReplica("b")
	if _, err := other.Bundle(t.Context()); reason.Of(err) != reason.IssuerUnavailable {
		t.Errorf("a bundle before the first key: %v", err)
	}
	r.wait(time.Hour)
	r.must(other.Start(t.Context()))
	seen := []int64{}
	step := func(wantKeys int) {
		t.Helper()
		r.must(r.b.RefreshBundle(t.Context()))
		s, n := bundleOf(t, r.b)
		if n != wantKeys {
			t.Errorf("%d keys, want %d", n, wantKeys)
		}
		seen = append(seen, s)
	}
	step(2)
	end := r.store.keys[0].NotAfter
	r.wait(end.Sub(r.now()) - time.Millisecond)
	step(2)
	r.wait(time.Millisecond) // at its end a key is gone
	step(1)
	r.wait(r.store.keys[1].NotAfter.Sub(r.now()))
	step(0)
	if seen[0] != seen[1] || seen[1] >= seen[2] || seen[2] >= seen[3] {
		t.Errorf("sequences %v", seen)
	}
	r.wait(40 * time.Hour)
	step(0)
	if seen[4] != seen[3] {
		t.Errorf("the sequence went back to %d", seen[4])
	}
	if other, _ := bundleOf(t, other); other == 0 {
		t.Error("a replica without a sequence")
	}
	r.store.failing("Keys", reason.New(reason.StoreUnavailable, "away"))
	if err := r.b.RefreshBundle(t.Context()); err == nil {
		t.Error("no keys were read, and nobody is told")
	}
	r.store.failing("Keys", nil)
	r.store.keys = append(r.store.keys, ledger.Key{ID: "x", Kind: issuer.KindCA, DER: []byte("no"), NotAfter: r.now().Add(time.Hour)})
	if err := r.b.RefreshBundle(t.Context()); err == nil {
		t.Error("a key that is no certificate is in the bundle")
	}
	if _, n := bundleOf(t, r.b); n != 0 {
		t.Error("the last bundle is gone")
	}
}

// TestBundleSequenceRisesWithEveryChange: a key that ends and one that is
// published within the same minute are two changes; a reader that goes by the
// sequence must not miss the second.
func TestBundleSequenceRisesWithEveryChange(t *testing.T) {
	for _, offset := range []time.Duration{0, 20 * time.Second, 59 * time.Second} {
		r := newRig(t)
		begun := r.now()
		last, sequence, changes := "", int64(0), 0
		look := func() {
			t.Helper()
			r.must(r.b.RefreshBundle(t.Context()))
			s, _ := bundleOf(t, r.b)
			var ids []string
			for _, k := range r.store.keys {
				if r.now().Before(k.NotAfter) {
					ids = append(ids, k.ID)
				}
			}
			set := strings.Join(ids, " ")
			if set != last {
				changes++
			}
			if s < sequence || (set != last) != (s > sequence) {
				t.Errorf("at %s the sequence goes from %d to %d with keys %d, changed %t", r.now().Sub(begun), sequence, s, len(ids), set != last)
			}
			last, sequence = set, s
		}
		until := func(end, step time.Duration) {
			for at := r.now().Sub(begun); at < end; at += step {
				r.wait(step)
				look()
				if (at+step-offset)%time.Minute == 0 {
					r.must(r.b.RotateCA(t.Context()))
					look()
				}
			}
		}
		look()
		for _, half := range []time.Duration{12 * time.Hour, 24 * time.Hour, 36 * time.Hour} {
			r.wait(half - 2*time.Minute - r.now().Sub(begun))
			until(half+2*time.Minute, time.Second)
			until(half+15*time.Minute, time.Minute)
			r.must(r.b.RotateCA(t.Context()))
		}
		if changes != 6 { // the first, three published, two ended
			t.Errorf("%d changes", changes)
		}
	}
}

// TestPoliciesKeepTheirVersion: what was in force before comes back under its
// version, and going back is a record too.
func TestPoliciesKeepTheirVersion(t *testing.T) {
	r := newRig(t)
	grants := func() (n int) {
		for _, rec := range r.store.records {
			if rec.Type == ledger.TypePolicyActivated {
				n++
			}
		}
		return n
	}
	version := func(doc string) int64 {
		v, err := r.b.ActivatePolicy(t.Context(), loadSet(t, doc), "uid:0")
		r.must(err)
		return v
	}
	if v := version(zoneLab); v != 1 || grants() != 1 {
		t.Errorf("the same policy again is version %d with %d records", v, grants())
	}
	if v := version(zoneOpen); v != 2 || grants() != 2 {
		t.Errorf("another one is version %d with %d records", v, grants())
	}
	if v := version(zoneLab); v != 1 || grants() != 3 {
		t.Errorf("back again is version %d with %d records", v, grants())
	}
	r.store.failing("ObjectByDigest", reason.New(reason.StoreUnavailable, "away"))
	if _, err := r.b.ActivatePolicy(t.Context(), loadSet(t, zoneOpen), "uid:0"); reason.Of(err) != reason.StoreUnavailable {
		t.Errorf("%v", err)
	}
	h := r.enrolled()
	if r.lastAttestation(h.node).Policy.Version != 1 {
		t.Error("a policy that could not be recorded judges")
	}
}

// TestAdmissionsArePaged: the mirror of the inventory reads until the end.
func TestAdmissionsArePaged(t *testing.T) {
	r := newRig(t)
	for i := range 2500 {
		r.store.admissions = append(r.store.admissions, seqAdmission{
			Admission: ledger.Admission{Kind: ledger.AdmitInventory, EKHashes: [][32]byte{{byte(i), byte(i >> 8), 1}}}, seq: int64(1000 + i),
		})
	}
	h := r.newHost()
	r.store.admissions = append(r.store.admissions, seqAdmission{
		Admission: ledger.Admission{Kind: ledger.AdmitInventory, EKHashes: [][32]byte{{}, h.tpm.EK.RootHash(t)}}, seq: 9999,
	})
	calls := r.store.reads["AdmissionsSince"]
	r.must(r.b.PollAdmissions(t.Context()))
	if n := r.store.reads["AdmissionsSince"] - calls; n != 3 {
		t.Errorf("%d pages", n)
	}
	reads := r.store.reads["AdmissionByEK"]
	if _, err := h.askEnrol(); err != nil || r.store.reads["AdmissionByEK"] != reads {
		t.Errorf("the last one is not in memory: %v", err)
	}
	r.store.failing("AdmissionsSince", reason.New(reason.StoreUnavailable, "away"))
	if err := r.b.PollAdmissions(t.Context()); reason.Of(err) != reason.StoreUnavailable {
		t.Errorf("%v", err)
	}
}

// TestLogCacheIsBounded by bytes.
func TestLogCacheIsBounded(t *testing.T) {
	r := newRig(t)
	log := func(i int) []byte { return append(make([]byte, broker.LogCacheBytes/4-1), byte(i)) }
	for range 9 {
		r.b.CacheLog(log(0))
	}
	for i := range 4 {
		r.b.CacheLog(log(i))
	}
	if n := r.b.CachedLogs(); n != 4 {
		t.Errorf("%d logs fit", n)
	}
	r.b.CacheLog([]byte{1})
	if n := r.b.CachedLogs(); n != 1 {
		t.Errorf("%d logs past the bound", n)
	}
}
