package broker_test

import (
	"bytes"
	"crypto/rand"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestCheckpoints: only a note of the log's own key can stop the issuing.
func TestCheckpoints(t *testing.T) {
	sign := func(r *rig, c ledger.Checkpoint) string {
		text, err := c.Sign(r.log)
		r.must(err)
		return text
	}
	origin := ledger.Origin(testDomain, logID)
	for _, tt := range []struct {
		name  string
		make  func(r *rig) string
		want  reason.Code
		stops bool
	}{
		{"none", func(*rig) string { return "" }, "", false},
		{"the newest", func(r *rig) string {
			r.must(r.b.SignNow(r.t.Context()))
			return r.store.latest
		}, "", false},
		{"an older one of this log", func(r *rig) string {
			old := r.store.latest
			r.enrolled()
			r.must(r.b.SignNow(r.t.Context()))
			return old
		}, "", false},
		{"no note", func(*rig) string { return "trust me" }, reason.RequestMalformed, false},
		{"signed by another key", func(r *rig) string {
			other := newRig(r.t)
			return sign(other, ledger.Checkpoint{Origin: origin, Size: 99})
		}, reason.RequestMalformed, false},
		{"of another log of this key", func(r *rig) string {
			return sign(r, ledger.Checkpoint{Origin: ledger.Origin(testDomain, "other"), Size: 1})
		}, reason.RequestMalformed, false},
		{"signed, and of a size that the log never had", func(r *rig) string {
			return sign(r, ledger.Checkpoint{Origin: origin, Size: 1_000_000})
		}, reason.LedgerFork, true},
		{"signed, and of another root", func(r *rig) string {
			r.must(r.b.SignNow(r.t.Context()))
			return sign(r, ledger.Checkpoint{Origin: origin, Size: r.store.frontier.Size(), Root: [32]byte{6}})
		}, reason.LedgerFork, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			h := r.enrolled()
			text := tt.make(r)
			ch, err := h.askRenew()
			r.must(err)
			req := h.answer(ch)
			req.Checkpoint = text
			out, err := h.attest(req)
			wantCode(t, out, err, tt.want)
			expectStopped(t, r, tt.stops)
		})
	}
	t.Run("the newest costs no read", func(t *testing.T) {
		r := newRig(t)
		h := r.enrolled()
		r.must(r.b.SignNow(t.Context()))
		ch, err := h.askRenew()
		r.must(err)
		req := h.answer(ch)
		req.Checkpoint = r.store.latest
		if _, err := h.attest(req); err != nil || r.store.reads["CheckpointRoot"] != 0 {
			t.Errorf("%d reads, %v", r.store.reads["CheckpointRoot"], err)
		}
	})
	t.Run("a stranger cannot stop anything", func(t *testing.T) {
		r := newRig(t)
		h := r.enrolled()
		ch, err := h.askRenew()
		r.must(err)
		req := h.quote(ch, make([]byte, 32))
		req.Checkpoint = sign(r, ledger.Checkpoint{Origin: origin, Size: 1_000_000})
		out, err := h.attest(req)
		wantCode(t, out, err, reason.TPM2QuoteNonceMismatch)
		expectStopped(t, r, false)
	})
	t.Run("the database is away", func(t *testing.T) {
		r := newRig(t)
		h := r.enrolled()
		ch, err := h.askRenew()
		r.must(err)
		req := h.answer(ch)
		req.Checkpoint = sign(r, ledger.Checkpoint{Origin: origin, Size: 1_000_000})
		r.store.failing("CheckpointRoot", reason.New(reason.StoreUnavailable, "away"))
		out, err := h.attest(req)
		wantCode(t, out, err, reason.StoreUnavailable)
		expectStopped(t, r, false)
	})
}

// TestCheckpointsOfOtherLogs: a host that comes from a broker with another log
// shows that log's checkpoint, which is compared with that log.
func TestCheckpointsOfOtherLogs(t *testing.T) {
	second := ledger.Origin(testDomain, "second")
	skey, _, err := ledger.NewLogKey(rand.Reader, second)
	if err != nil {
		t.Fatal(err)
	}
	signer, key, err := ledger.ParseLogKey(skey)
	if err != nil {
		t.Fatal(err)
	}
	root := [32]byte{7}
	for name, c := range map[string]struct {
		known bool
		cp    ledger.Checkpoint
		want  reason.Code
		stops bool
	}{
		"of that log":                 {true, ledger.Checkpoint{Origin: second, Size: 5, Root: root}, "", false},
		"of a log that is not known":  {false, ledger.Checkpoint{Origin: second, Size: 5, Root: root}, reason.RequestMalformed, false},
		"of our log, by another key":  {true, ledger.Checkpoint{Origin: ledger.Origin(testDomain, logID), Size: 5, Root: root}, reason.RequestMalformed, false},
		"which that log never had":    {true, ledger.Checkpoint{Origin: second, Size: 6, Root: root}, reason.LedgerFork, true},
		"of another root of that log": {true, ledger.Checkpoint{Origin: second, Size: 5}, reason.LedgerFork, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.store.others = map[string][32]byte{"second 5": root}
			if c.known {
				r.cfg.OtherLogs = []ledger.NoteVerifier{key}
			}
			r.b, r.iss = r.newReplica("a")
			r.must(r.b.Start(t.Context()))
			r.activate()
			h := r.enrolled()
			ch, err := h.askRenew()
			r.must(err)
			req := h.answer(ch)
			req.Checkpoint, err = c.cp.Sign(signer)
			r.must(err)
			out, err := h.attest(req)
			wantCode(t, out, err, c.want)
			expectStopped(t, r, c.stops)
		})
	}
}

// expectStopped: after a fork nothing is issued or granted, for anybody.
func expectStopped(t *testing.T, r *rig, stopped bool) {
	t.Helper()
	want := reason.Code("")
	if stopped {
		want = reason.LedgerFork
	}
	before := r.records()
	h := r.newHost()
	ek := h.tpm.EK.RootHash(t)
	if _, err := r.b.AdmitNode(t.Context(), operator, api.AdmitRequest{EKHashes: []string{hexOf(ek)}}); reason.Of(err) != want {
		t.Errorf("a grant gives %v, want %q", err, want)
	}
	if stopped {
		if _, err := h.attest(api.AttestRequest{Token: "x"}); reason.Of(err) != want {
			t.Errorf("an attestation gives %v, want %q", err, want)
		}
		if r.records() != before {
			t.Error("something was recorded")
		}
		if err := r.b.SignNow(t.Context()); reason.Of(err) != want {
			t.Errorf("signing a checkpoint gives %v, want %q", err, want)
		}
		return
	}
	h.enrol()
	r.must(r.b.SignNow(t.Context()))
}

// TestForkOfTheAnchorStopsForGood, also if the anchor would agree again; any
// other failure to sign stops nothing.
func TestForkOfTheAnchorStopsForGood(t *testing.T) {
	r := newRig(t)
	var said bytes.Buffer
	r.cfg.Logger = slog.New(slog.NewTextHandler(&said, nil))
	r.b = r.over(r.store)
	r.mu.Lock()
	r.anchor = reason.New(reason.StoreUnavailable, "away")
	r.mu.Unlock()
	if err := r.b.SignNow(t.Context()); reason.Of(err) != reason.StoreUnavailable {
		t.Errorf("%v", err)
	}
	r.mu.Lock()
	r.anchor = nil
	r.mu.Unlock()
	expectStopped(t, r, false)
	r.mu.Lock()
	r.anchor = reason.New(reason.LedgerFork, "rolled back")
	r.mu.Unlock()
	if err := r.b.SignNow(t.Context()); reason.Of(err) != reason.LedgerFork {
		t.Errorf("%v", err)
	}
	r.mu.Lock()
	r.anchor = nil
	r.mu.Unlock()
	expectStopped(t, r, true)
	if n := strings.Count(said.String(), "ledger fork"); n != 1 {
		t.Errorf("an operator is told %d times", n)
	}
}

// TestSignerHasToBeAlive: no evidence is judged while nothing could be issued.
func TestSignerHasToBeAlive(t *testing.T) {
	t.Run("clock", func(t *testing.T) {
		for skew, want := range map[time.Duration]reason.Code{
			2 * time.Second: "", -2 * time.Second: "",
			2*time.Second + time.Millisecond:    reason.IssuerUnavailable,
			-(2*time.Second + time.Millisecond): reason.IssuerUnavailable,
		} {
			r := newRig(t)
			h := r.enrolled()
			r.store.skew = skew
			if err := r.b.CheckClock(t.Context()); reason.Of(err) != want {
				t.Errorf("clock off by %s: %v", skew, err)
			}
			out, err := h.tryRenew()
			wantCode(t, out, err, want)
			other, _ := r.newReplica("b")
			if err := other.Start(t.Context()); reason.Of(err) != want {
				t.Errorf("a replica starts with %s: %v", skew, err)
			}
			r.store.skew = 0
			r.must(r.b.CheckClock(t.Context()))
			h.prev = h.state().Last.String()
			h.renew()
		}
	})
	t.Run("clock of the database cannot be read", func(t *testing.T) {
		r := newRig(t)
		r.store.failing("ClockSkew", reason.New(reason.StoreUnavailable, "away"))
		if err := r.b.CheckClock(t.Context()); reason.Of(err) != reason.StoreUnavailable {
			t.Errorf("%v", err)
		}
	})
	t.Run("no CA", func(t *testing.T) {
		r := newRig(t)
		h := r.enrolled()
		r.wait(24 * time.Hour)
		h.tpm.Wait(24 * time.Hour)
		trace := r.traced(func() {
			out, err := h.tryRenew()
			wantCode(t, out, err, reason.IssuerUnavailable)
		})
		if slices.Contains(trace, "broker.redeem") {
			t.Error("a token was opened for nothing")
		}
	})
}

// TestNoRandomBytes: each single read of random bytes that fails ends the
// request: a nonce, salt or id of zeros would look like any other.
func TestNoRandomBytes(t *testing.T) {
	for name, do := range map[string]func(r *rig, h *host) func() error{
		"renewal's challenge":   func(_ *rig, h *host) func() error { return func() error { return second(h.askRenew()) } },
		"enrolment's challenge": func(_ *rig, h *host) func() error { return func() error { return second(h.askEnrol()) } },
		"enrolment's challenge for an RSA EK": func(r *rig, _ *host) func() error {
			h := r.newHost()
			h.tpm.EK = evidencetest.RSAEK(t)
			r.admit(h, "")
			return func() error { return second(h.askEnrol()) }
		},
		"acceptance": attestLater,
		"denial": func(r *rig, h *host) func() error {
			h.prev = "0197b3c2-0000-7000-8000-000000000001"
			try := attestLater(r, h)
			return func() error {
				if err := try(); reason.Of(err) != reason.NodeForkSuspected {
					return err
				}
				return nil
			}
		},
		"admission": func(r *rig, _ *host) func() error {
			return func() error {
				return second(r.b.AdmitNode(t.Context(), operator, api.AdmitRequest{EKHashes: []string{hexOf([32]byte{1})}}))
			}
		},
		"join token": func(r *rig, _ *host) func() error {
			return func() error { return second(r.b.CreateToken(t.Context(), operator, api.TokenRequest{})) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			for n := 0; ; n++ {
				r := newRig(t)
				h := r.enrolled()
				try := do(r, h)
				before, asked := r.records(), false
				r.store.onAppend = func(ledger.Commit) error {
					asked = true
					return nil
				}
				r.random.failOne(n)
				err := try()
				if !r.random.failed() {
					if err != nil || n == 0 {
						t.Errorf("%d reads: %v", n, err)
					}
					return
				}
				// What Sign draws comes after the record: the SVID is lost, not the record.
				if signing := name == "acceptance" && r.records() == before+1; err == nil || asked && !signing {
					t.Fatalf("went on without random bytes at read %d", n+1)
				}
			}
		})
	}
}

// attestLater makes a request to send later.
func attestLater(r *rig, h *host) func() error {
	ch, err := h.askRenew()
	r.must(err)
	req := h.answer(ch)
	return func() error { return second(h.attest(req)) }
}
