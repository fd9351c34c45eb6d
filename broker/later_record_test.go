package broker_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// laterKinds are the two ways to ask; the text is "" where nothing was issued.
var laterKinds = map[string]func(r *rig, c broker.Caller) (string, error){
	"x509": func(r *rig, c broker.Caller) (string, error) {
		out, err := r.svid(c, "web")
		if len(out.Chain) > 0 {
			out.RecordID += string(out.Chain[0])
		}
		return out.RecordID, err
	},
	"jwt": func(r *rig, c broker.Caller) (string, error) {
		out, err := r.jwt(c, "payments-api", "web")
		return out.RecordID + out.Token, err
	},
}

// steps drops the readings of the issuer's clock, which differ.
func steps(trace []string) []string {
	return slices.DeleteFunc(trace, func(s string) bool { return s == "issuer" })
}

// TestInvariant1_LaterSVIDs: nothing is signed before Append returned, and
// nothing at all where it failed.
func TestInvariant1_LaterSVIDs(t *testing.T) {
	before := []string{"svid.check", "svid.prepare", "svid.record", "append"}
	for kind, ask := range laterKinds {
		t.Run(kind, func(t *testing.T) {
			r, _, c := newTokens(t)
			r.store.onAppend = func(ledger.Commit) error {
				r.note("append")
				return nil
			}
			var err error
			var out string
			trace := r.traced(func() { out, err = ask(r, c) })
			r.must(err)
			if i := slices.Index(trace, "svid.sign"); i < 0 || trace[i+1] != "issuer" || out == "" {
				t.Errorf("the issuer was not asked to sign: %v", trace)
			}
			if diff := cmp.Diff(append(slices.Clone(before), "svid.sign", "svid.answer"), steps(trace)); diff != "" {
				t.Errorf("order (-want +got):\n%s", diff)
			}
		})
		for name, failure := range map[string]error{
			"database away":     reason.New(reason.StoreUnavailable, "away"),
			"queue full":        reason.New(reason.RequestOverloaded, "full"),
			"log forked":        reason.New(reason.LedgerFork, "fork"),
			"no code at all":    errors.New("slip"),
			"full after a wait": reason.Wrap(reason.RequestOverloaded, "full", context.DeadlineExceeded),
			"waited too long":   fmt.Errorf("append: %w", context.DeadlineExceeded),
		} {
			t.Run(kind+" "+name, func(t *testing.T) {
				r, h, c := newTokens(t)
				r.store.onAppend = func(ledger.Commit) error {
					r.note("append")
					return failure
				}
				want := reason.Of(failure)
				if name == "waited too long" {
					want = reason.StoreUnavailable
				}
				var err error
				var out string
				state := h.state()
				trace := r.traced(func() { out, err = ask(r, c) })
				if reason.Of(err) != want || out != "" {
					t.Errorf("code %q, want %q; answer %q", reason.Of(err), want, out)
				}
				if diff := cmp.Diff(before, steps(trace)); diff != "" {
					t.Errorf("order (-want +got):\n%s", diff)
				}
				if !cmp.Equal(h.state(), state) {
					t.Error("the node moved on")
				}
			})
		}
	}
}

// TestT58_FaultAtEachStep: a panic or a lack of random bytes at any step issues
// nothing, and the next request is judged as if nothing had been.
func TestT58_FaultAtEachStep(t *testing.T) {
	for kind, ask := range laterKinds {
		for _, at := range []string{"svid.check", "svid.prepare", "svid.record", "svid.sign", "svid.answer"} {
			t.Run(kind+" panic at "+at, func(t *testing.T) {
				r, _, c := newTokens(t)
				r.panicAt = at
				before, got := r.records(), ""
				func() {
					defer func() { _ = recover() }()
					got, _ = ask(r, c)
					t.Error("no panic")
				}()
				recorded := r.records() - before
				if late := at == "svid.sign" || at == "svid.answer"; got != "" || (recorded == 1) != late || recorded > 1 {
					t.Errorf("%d records, answer %q", recorded, got)
				}
				r.panicAt = ""
				if got, err := ask(r, c); err != nil || got == "" {
					t.Errorf("the next request: %v", err)
				}
			})
		}
		t.Run(kind+" without random bytes", func(t *testing.T) {
			for n := 0; ; n++ {
				r, _, c := newTokens(t)
				csr := api.SVIDRequest{Workload: "web", CSR: csrOf(t, x509.CertificateRequest{})}
				before := r.records()
				r.random.failOne(n)
				var err error
				var got string
				if kind == "x509" {
					var out api.SVIDResponse
					out, err = r.b.SVID(t.Context(), c, csr)
					got = out.RecordID
				} else {
					got, err = ask(r, c)
				}
				if !r.random.failed() {
					if err != nil || n == 0 {
						t.Errorf("%d reads: %v", n, err)
					}
					return
				}
				// What signing draws comes after the record.
				if err == nil || got != "" || r.records() > before+1 {
					t.Fatalf("went on without random bytes at read %d: %v", n+1, err)
				}
			}
		})
	}
}

// TestGuard: a node that moves on between the judgement and the record is judged
// again, and the SVID that was prepared before is never signed.
func TestGuard(t *testing.T) {
	race := func(r *rig, times int, fn func(*ledger.Snapshot)) {
		r.store.onAppend = func(c ledger.Commit) error {
			if c.Record.Type == ledger.TypeIssuance && times > 0 {
				times--
				r.store.change(string(c.Guard.Node), fn)
			}
			return nil
		}
	}
	for kind, ask := range laterKinds {
		for name, tt := range map[string]struct {
			times int
			fn    func(*ledger.Snapshot)
			want  reason.Code
			asked int
		}{
			"T54_disabled":            {1, func(s *ledger.Snapshot) { s.Node.Status = ledger.StatusDisabled }, reason.NodeDisabled, 1},
			"T54_refused":             {1, func(s *ledger.Snapshot) { s.State.Verdict = ledger.VerdictDeny }, reason.PolicyEvidenceAge, 1},
			"T54_attested again":      {1, func(s *ledger.Snapshot) { s.State.Last = uuid.New() }, reason.AuthInvalid, 1},
			"nothing that matters":    {1, func(*ledger.Snapshot) {}, "", 2},
			"twice":                   {2, func(*ledger.Snapshot) {}, "", 3},
			"always":                  {9, func(*ledger.Snapshot) {}, reason.RequestOverloaded, 3},
			"deleted behind our back": {1, func(s *ledger.Snapshot) { s.Found = false }, reason.AuthInvalid, 1},
		} {
			t.Run(kind+" "+name, func(t *testing.T) {
				r, h, c := newTokens(t)
				race(r, tt.times, tt.fn)
				var err error
				var got string
				trace := r.traced(func() { got, err = ask(r, c) })
				if reason.Of(err) != tt.want || (got != "") != (tt.want == "") {
					t.Errorf("code %q, want %q, answer %q", reason.Of(err), tt.want, got)
				}
				count := func(step string) (n int) {
					for _, s := range trace {
						if s == step {
							n++
						}
					}
					return n
				}
				signed := 0
				if tt.want == "" {
					signed = 1
				}
				if count("svid.record") != tt.asked || count("svid.sign") != signed || len(r.issued()) != signed {
					t.Errorf("%d tries, %d signed, %d recorded", count("svid.record"), count("svid.sign"), len(r.issued()))
				}
				if signed == 1 && r.issued()[0].SVIDs[0].SPIFFEID != "spiffe://example.org/zone/lab/workload/web" {
					t.Errorf("issued %+v to %s", r.issued()[0], h.node)
				}
			})
		}
	}
}

// TestLaterRecordOutlivesTheClient, and not for ever.
func TestLaterRecordOutlivesTheClient(t *testing.T) {
	r, _, c := newLater(t)
	ctx, cancel := context.WithCancel(t.Context())
	r.store.onAppend = func(ledger.Commit) error {
		cancel()
		return nil
	}
	if _, err := r.b.SVID(ctx, c, api.SVIDRequest{Workload: "web", CSR: csrOf(t, x509.CertificateRequest{})}); err != nil || len(r.issued()) != 1 {
		t.Errorf("the client left and the record was given up: %v", err)
	}
	synctest.Test(t, func(t *testing.T) {
		r, _, c := newLater(t)
		r.b = r.over(&slowLog{memStore: r.store})
		r.activate(zoneWork)
		begun := time.Now()
		_, err := r.svid(c, "web")
		if took := time.Since(begun); reason.Of(err) != reason.StoreUnavailable || took != broker.RecordTimeout {
			t.Errorf("gave up after %s: %v", took, err)
		}
	})
}

// slowLog never answers an append of a later SVID.
type slowLog struct{ *memStore }

func (s *slowLog) Append(ctx context.Context, c ledger.Commit) (ledger.Position, error) {
	if c.Record.Type != ledger.TypeIssuance {
		return s.memStore.Append(ctx, c)
	}
	<-ctx.Done()
	return ledger.Position{}, fmt.Errorf("append: %w", ctx.Err())
}

// TestLaterSignFailsAfterTheRecord: an auditor counts the SVID as existing.
func TestLaterSignFailsAfterTheRecord(t *testing.T) {
	for kind, ask := range laterKinds {
		t.Run(kind, func(t *testing.T) {
			r, _, c := newTokens(t)
			r.store.onAppend = func(ledger.Commit) error {
				r.wait(25 * time.Hour) // CA and token keys end meanwhile
				return nil
			}
			if got, err := ask(r, c); reason.Of(err) != reason.IssuerUnavailable || got != "" || len(r.issued()) != 1 {
				t.Errorf("%d records, answer %q, %v", len(r.issued()), got, err)
			}
		})
	}
}

// TestT53_NoLaterSVIDOutlivesItsEvidence: whenever it is asked for, also after
// the clock went back, and under any policy that came since.
func TestT53_NoLaterSVIDOutlivesItsEvidence(t *testing.T) {
	for name, tt := range map[string]struct {
		doc         string
		age, grace  time.Duration
		x509, token time.Duration
	}{
		"as attested":       {zoneWork, 5 * time.Minute, 40 * time.Minute, 30 * time.Minute, 2 * time.Minute},
		"no grace any more": {strings.Replace(zoneWork, "grace: 40m", "grace: 0s", 1), 5 * time.Minute, 0, 30 * time.Minute, 2 * time.Minute},
		"younger evidence":  {strings.NewReplacer("5m", "3m", "40m", "1m").Replace(zoneWork), 3 * time.Minute, time.Minute, 30 * time.Minute, 2 * time.Minute},
		"older evidence":    {strings.NewReplacer("5m", "1h", "jwt_ttl: 2m", "jwt_ttl: 15m").Replace(zoneWork), 5 * time.Minute, 40 * time.Minute, 30 * time.Minute, 15 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			r, _, c := newTokens(t)
			r.activate(tt.doc)
			attested := time.Unix(claimOf(t, c.Certificate).Zone.AttestedAt, 0)
			for _, after := range []time.Duration{
				0, time.Millisecond, time.Minute, 150 * time.Second, 3*time.Minute - 500*time.Millisecond,
				3 * time.Minute, 299500 * time.Millisecond, 5*time.Minute - time.Millisecond, 5 * time.Minute, time.Minute, -5 * time.Second,
			} {
				r.wait(attested.Add(after).Sub(r.now()))
				x, err := r.svid(c, "web")
				j, err2 := r.jwt(c, "payments-api", "")
				if after >= tt.age {
					if reason.Of(err) != reason.PolicyEvidenceAge || reason.Of(err2) != reason.PolicyEvidenceAge {
						t.Errorf("%s after: %v, %v", after, err, err2)
					}
					continue
				}
				r.must(errors.Join(err, err2))
				end := attested.Add(tt.age)
				wantX := earliest(r.now().Add(tt.x509), end.Add(tt.grace), c.Certificate.NotAfter)
				wantJ := earliest(r.now().Add(tt.token), end)
				if !leaf(t, x.Chain).NotAfter.Equal(wantX) || !x.ExpiresAt.Equal(wantX) || !j.ExpiresAt.Equal(wantJ) {
					t.Errorf("%s after: ends %s and %s, want %s and %s", after, x.ExpiresAt, j.ExpiresAt, wantX, wantJ)
				}
				for _, i := range r.issued()[len(r.issued())-2:] {
					if got := time.UnixMilli(i.FreshUntil); !got.Equal(end) {
						t.Errorf("the record says fresh until %s, want %s", got, end)
					}
				}
				if got := claimOf(t, leaf(t, x.Chain)).Zone.FreshUntil; got != end.Unix() || !x.FreshUntil.Equal(end) || !j.FreshUntil.Equal(end) {
					t.Errorf("fresh until %d in the claim, %s and %s in the answers, want %s", got, x.FreshUntil, j.FreshUntil, end)
				}
				if exp := int64(payloadOf(t, j.Token)["exp"].(float64)); exp != wantJ.Unix() {
					t.Errorf("exp %d, want %d", exp, wantJ.Unix())
				}
			}
		})
	}
}

func earliest(first time.Time, more ...time.Time) time.Time {
	for _, at := range more {
		if at.Before(first) {
			first = at
		}
	}
	return first.Truncate(time.Second)
}
