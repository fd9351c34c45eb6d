package broker_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestStart: a replica that cannot begin says so instead of starting.
func TestStart(t *testing.T) {
	for method, name := range map[string]string{
		"ClockSkew": "clock", "AdmissionsSince": "admissions", "ObjectByDigest": "trust data", "Keys": "bundle", "Append": "first CA",
	} {
		r := newRig(t)
		other, iss := r.newReplica("b")
		r.store.failing(method, reason.New(reason.StoreUnavailable, "away"))
		if err := other.Start(t.Context()); reason.Of(err) != reason.StoreUnavailable {
			t.Errorf("without the %s: %v", name, err)
		}
		if iss.Ready(r.now()) == nil {
			t.Errorf("without the %s a CA is in use", name)
		}
	}
	t.Run("fork", func(t *testing.T) {
		r := newRig(t)
		other, _ := r.newReplica("b")
		r.anchor = reason.New(reason.LedgerFork, "rolled back")
		n := r.records()
		if err := other.Start(t.Context()); reason.Of(err) != reason.LedgerFork || r.records() != n {
			t.Errorf("%v", err)
		}
	})
	t.Run("trust data is recorded once", func(t *testing.T) {
		r := newRig(t)
		other, _ := r.newReplica("b")
		r.must(other.Start(t.Context()))
		trust := 0
		for _, o := range r.store.objects {
			if o.Kind == "trust" && o.Digest == r.cfg.Trust.Digest && slices.Equal(o.Bytes, r.cfg.Trust.Bytes) {
				trust++
			}
		}
		if trust != 1 {
			t.Errorf("%d times", trust)
		}
	})
}

// TestRun: the jobs turn by themselves, failures end nothing, and the end of the
// context ends them all.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.b.Run(ctx) }()
		r.store.failing("AdmissionsSince", reason.New(reason.StoreUnavailable, "away"))
		time.Sleep(3 * time.Second)
		synctest.Wait()
		r.store.failing("AdmissionsSince", nil)

		h := r.newHost()
		_, err := h.askEnrol()
		if reason.Of(err) != reason.NodeAdmissionPending {
			t.Fatal(err)
		}
		r.wait(12 * time.Hour)
		before := r.store.latest
		other := &host{r: r, tpm: evidencetest.New(t), key: h.key}
		ek := other.tpm.EK.RootHash(t)
		r.store.mu.Lock()
		r.store.admissions = append(r.store.admissions, seqAdmission{
			Admission: ledger.Admission{Kind: ledger.AdmitInventory, EKHashes: [][32]byte{ek}}, seq: 1 << 40,
		})
		r.store.skew = time.Minute
		r.store.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()

		reads := r.store.reads["AdmissionByEK"]
		if _, err := other.askEnrol(); err != nil || r.store.reads["AdmissionByEK"] != reads {
			t.Errorf("admissions are not polled: %v", err)
		}
		if len(r.store.pending) != 1 || r.store.count(reason.NodeAdmissionPending, "") != 1 {
			t.Error("pending machines or refusals are not written")
		}
		if len(r.store.keys) != 2 || r.store.latest == before {
			t.Error("the CA is not rotated, or no checkpoint is signed")
		}
		if _, keys := bundleOf(t, r.b); keys != 2 {
			t.Errorf("the bundle has %d keys", keys)
		}
		out, err := h.attest(h.quoteNothing())
		wantCode(t, out, err, reason.IssuerUnavailable) // the clock is compared, too
		cancel()
		if err := <-done; err != nil {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestNewRefusesHalfAConfiguration(t *testing.T) {
	r := newRig(t)
	whole := r.cfg
	whole.Issuer = r.iss
	if _, err := broker.New(whole); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(c *broker.Config){
		"trust domain": func(c *broker.Config) { c.TrustDomain = "" },
		"replica":      func(c *broker.Config) { c.Replica = "" },
		"store":        func(c *broker.Config) { c.Store = nil },
		"issuer":       func(c *broker.Config) { c.Issuer = nil },
		"log key":      func(c *broker.Config) { c.LogKey = nil },
		"checkpoints":  func(c *broker.Config) { c.SignCheckpoint = nil },
		"anchor":       func(c *broker.Config) { c.Anchor = nil },
		"clock":        func(c *broker.Config) { c.Now = nil },
		"randomness":   func(c *broker.Config) { c.Rand = nil },
		"logger":       func(c *broker.Config) { c.Logger = nil },
		"cluster key":  func(c *broker.Config) { c.ClusterKey = [32]byte{} },
	} {
		c := whole
		change(&c)
		if _, err := broker.New(c); err == nil {
			t.Errorf("a broker without %s", name)
		}
	}
	whole.Step = nil
	b, err := broker.New(whole)
	r.must(err)
	if _, err := b.Attest(t.Context(), broker.Caller{}, (&host{r: r}).quoteNothing()); reason.Of(err) != reason.PolicyMissing {
		t.Errorf("%v", err)
	}
}
