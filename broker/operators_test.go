package broker_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func spkiOf(t testing.TB, public any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func ecKey(t testing.TB, curve elliptic.Curve) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return spkiOf(t, key.Public())
}

func wantReason(t testing.TB, err error, want reason.Code) {
	t.Helper()
	if got := reason.Of(err); got != want {
		t.Errorf("code %q (%v), want %q", got, err, want)
	}
}

// addOperator gives a role and returns its holder with the hash of the key.
func (r *rig) addOperator(name, role string, ttl time.Duration) (api.Operator, [32]byte) {
	r.t.Helper()
	spki := ecKey(r.t, elliptic.P256())
	o, err := r.b.AddOperator(r.t.Context(), operator, api.OperatorRequest{Name: name, Role: role, SPKI: spki, TTL: int(ttl.Seconds())})
	r.must(err)
	return o, sha256.Sum256(spki)
}

func (r *rig) wantRole(b *broker.Broker, key [32]byte, role broker.Role, code reason.Code) {
	r.t.Helper()
	name, got, err := b.OperatorByKey(key)
	if reason.Of(err) != code || got != role || (name == "") != (code != "") {
		r.t.Errorf("%q %q %v, want %q %q", name, got, err, role, code)
	}
}

func TestOperatorLifecycle(t *testing.T) {
	r := newRig(t)
	o, key := r.addOperator("alice", api.RoleOperator, 48*time.Hour)
	if o.By != "uid:0" || o.Status != "active" || o.ExpiresAt.Sub(o.CreatedAt) != 48*time.Hour {
		t.Errorf("%+v", o)
	}
	g := r.grantOf(t)
	if g.Type != ledger.TypeOperatorAdded || g.Subject != o.ID || g.By != "uid:0" || g.RowHash == "" {
		t.Errorf("recorded as %+v", g)
	}
	r.wantRole(r.b, key, broker.RoleOperator, "")
	if none, _ := r.addOperator("bob", api.RoleAuditor, 0); none.ExpiresAt.Sub(none.CreatedAt) != 720*time.Hour {
		t.Errorf("without ttl: %+v", none)
	}

	revoked, err := r.b.RevokeOperator(t.Context(), operator, "alice", api.RevokeRequest{Note: "left"})
	r.must(err)
	if g = r.grantOf(t); g.Type != ledger.TypeOperatorRevoked || g.Subject != o.ID || g.Note != "left" || revoked.Status != "revoked" {
		t.Errorf("%+v recorded as %+v", revoked, g)
	}
	r.wantRole(r.b, key, "", reason.AuthInvalid)
	_, err = r.b.RevokeOperator(t.Context(), operator, "alice", api.RevokeRequest{})
	wantReason(t, err, reason.RequestNotFound)

	list, err := r.b.Operators(t.Context(), operator)
	r.must(err)
	if len(list) != 2 || list[0].Status != "revoked" || list[1].Name != "bob" {
		t.Errorf("listed are %+v", list)
	}
}

// TestT56_RoleIsFound: only the key counts, and only for its time.
func TestT56_RoleIsFound(t *testing.T) {
	r := newRig(t)
	_, key := r.addOperator("audit", api.RoleAuditor, time.Hour)
	r.wantRole(r.b, key, broker.RoleAuditor, "")
	r.wantRole(r.b, [32]byte{1}, "", reason.AuthInvalid)
	r.wantRole(r.b, [32]byte{}, "", reason.AuthInvalid)
	r.wait(time.Hour)
	r.must(r.b.PollOperators(t.Context()))
	r.wantRole(r.b, key, "", reason.AuthInvalid)
	if list, err := r.b.Operators(t.Context(), operator); err != nil || len(list) != 1 || list[0].Status != "expired" {
		t.Errorf("listed are %+v, %v", list, err)
	}

	t.Run("ends_between_two_readings", func(t *testing.T) {
		r := newRig(t)
		_, key := r.addOperator("audit", api.RoleAuditor, time.Second)
		r.wait(time.Second)
		r.wantRole(r.b, key, "", reason.AuthInvalid)
	})
}

// TestRoleTableFailsClosed: a replica that cannot learn of revocations believes
// no role certificate.
func TestRoleTableFailsClosed(t *testing.T) {
	r := newRig(t)
	_, key := r.addOperator("alice", api.RoleOperator, time.Hour)
	r.store.failing("Operators", reason.New(reason.StoreUnavailable, "away"))
	wantReason(t, r.b.PollOperators(t.Context()), reason.StoreUnavailable)
	r.wait(10 * time.Second)
	r.wantRole(r.b, key, broker.RoleOperator, "")
	r.wait(time.Second)
	r.wantRole(r.b, key, "", reason.StoreUnavailable)
	r.wantRole(r.b, [32]byte{1}, "", reason.StoreUnavailable)
	r.wait(-time.Hour) // a clock that steps back
	r.wantRole(r.b, key, "", reason.StoreUnavailable)
	r.store.failing("Operators", nil)
	r.must(r.b.PollOperators(t.Context()))
	r.wantRole(r.b, key, broker.RoleOperator, "")
}

// TestRevokedStaysRevoked: an old row with its good HMAC that is put back gives
// nothing at a replica that saw it go, and another replica learns of a
// revocation by reading.
func TestRevokedStaysRevoked(t *testing.T) {
	r := newRig(t)
	_, key := r.addOperator("alice", api.RoleOperator, time.Hour)
	other, _ := r.newReplica("b")
	r.must(other.PollOperators(t.Context()))
	r.wantRole(other, key, broker.RoleOperator, "")
	_, err := r.b.RevokeOperator(t.Context(), operator, "alice", api.RevokeRequest{})
	r.must(err)
	r.must(other.PollOperators(t.Context()))
	r.wantRole(other, key, "", reason.AuthInvalid)

	r.store.mu.Lock()
	r.store.operators[0].Revoked = false
	r.store.mu.Unlock()
	r.must(r.b.PollOperators(t.Context()))
	r.wantRole(r.b, key, "", reason.AuthInvalid)
	r.store.mu.Lock()
	r.store.operators = nil
	r.store.mu.Unlock()
	r.must(r.b.PollOperators(t.Context()))
	r.wantRole(r.b, key, "", reason.AuthInvalid)
}

// slowOperators is a store whose next answer about roles comes late.
type slowOperators struct {
	broker.Store
	slow          atomic.Bool
	asked, answer chan struct{}
}

func (s *slowOperators) Operators(ctx context.Context, since time.Time, limit int) ([]ledger.Operator, error) {
	out, err := s.Store.Operators(ctx, since, limit)
	if s.slow.CompareAndSwap(true, false) {
		close(s.asked)
		<-s.answer
	}
	return out, err
}

// TestLateAnswerBringsNobodyBack: a reading that began before a role was given
// or taken back does not overwrite one that began after it.
func TestLateAnswerBringsNobodyBack(t *testing.T) {
	r := newRig(t)
	s := &slowOperators{Store: r.store, asked: make(chan struct{}), answer: make(chan struct{})}
	b := r.over(s)
	s.slow.Store(true)
	done := make(chan error)
	go func() { done <- b.PollOperators(t.Context()) }()
	<-s.asked
	_, key := r.addOperator("alice", api.RoleAuditor, time.Hour)
	r.must(b.PollOperators(t.Context()))
	close(s.answer)
	r.must(<-done)
	r.wantRole(b, key, broker.RoleAuditor, "")
}

// TestRevokedAreForgottenAtTheirEnd: what a replica remembers of them is
// bounded by the roles that have not ended.
func TestRevokedAreForgottenAtTheirEnd(t *testing.T) {
	r := newRig(t)
	r.addOperator("alice", api.RoleAuditor, time.Hour)
	_, err := r.b.RevokeOperator(t.Context(), operator, "alice", api.RevokeRequest{})
	r.must(err)
	if n := r.b.RevokedRoles(); n != 1 {
		t.Errorf("%d are remembered", n)
	}
	r.wait(time.Hour)
	r.must(r.b.PollOperators(t.Context()))
	if n := r.b.RevokedRoles(); n != 0 {
		t.Errorf("%d are remembered past their end", n)
	}
}

func TestOperatorRefusals(t *testing.T) {
	r := newRig(t)
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	r.must(err)
	p256 := ecKey(t, elliptic.P256())
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	r.must(err)
	// encoding/asn1 passes over what follows in a SEQUENCE.
	longer := append(bytes.Clone(p256), 5, 0)
	longer[1] += 2
	if _, err := x509.ParsePKIXPublicKey(longer); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		req  api.OperatorRequest
		want reason.Code
	}{
		{"P384", api.OperatorRequest{Name: "a", Role: "auditor", SPKI: ecKey(t, elliptic.P384())}, ""},
		{"Ed25519", api.OperatorRequest{Name: "b", Role: "auditor", SPKI: spkiOf(t, ed)}, ""},
		{"longest", api.OperatorRequest{Name: "c", Role: "auditor", SPKI: ecKey(t, elliptic.P256()), TTL: api.MaxOperatorTTL}, ""},
		{"name_in_use", api.OperatorRequest{Name: "a", Role: "auditor", SPKI: ecKey(t, elliptic.P256())}, reason.RequestMalformed},
		{"RSA", api.OperatorRequest{Name: "d", Role: "auditor", SPKI: spkiOf(t, weak.Public())}, reason.RequestMalformed},
		{"P224", api.OperatorRequest{Name: "d", Role: "auditor", SPKI: ecKey(t, elliptic.P224())}, reason.RequestMalformed},
		{"no_key", api.OperatorRequest{Name: "d", Role: "auditor", SPKI: []byte("x")}, reason.RequestMalformed},
		{"key_with_a_tail", api.OperatorRequest{Name: "d", Role: "auditor", SPKI: append(p256[:len(p256):len(p256)], 0)}, reason.RequestMalformed},
		{"key_with_a_member_more", api.OperatorRequest{Name: "d", Role: "auditor", SPKI: longer}, reason.RequestMalformed},
		{"key_too_large", api.OperatorRequest{Name: "d", Role: "auditor", SPKI: make([]byte, api.MaxSPKI+1)}, reason.RequestTooLarge},
		{"role_admin", api.OperatorRequest{Name: "d", Role: "admin", SPKI: p256}, reason.RequestMalformed},
		{"no_role", api.OperatorRequest{Name: "d", SPKI: p256}, reason.RequestMalformed},
		{"name_with_a_colon", api.OperatorRequest{Name: "uid:0", Role: "auditor", SPKI: p256}, reason.RequestMalformed},
		{"no_name", api.OperatorRequest{Role: "auditor", SPKI: p256}, reason.RequestMalformed},
		{"too_long", api.OperatorRequest{Name: "d", Role: "auditor", SPKI: p256, TTL: api.MaxOperatorTTL + 1}, reason.RequestMalformed},
		{"negative", api.OperatorRequest{Name: "d", Role: "auditor", SPKI: p256, TTL: -1}, reason.RequestMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := r.records()
			_, err := r.b.AddOperator(t.Context(), operator, tt.req)
			wantReason(t, err, tt.want)
			if grew := r.records() > before; grew != (tt.want == "") {
				t.Errorf("recorded: %v", grew)
			}
		})
	}
	t.Run("note_with_a_line_break", func(t *testing.T) {
		_, err := r.b.RevokeOperator(t.Context(), operator, "a", api.RevokeRequest{Note: "a\nb"})
		wantReason(t, err, reason.RequestMalformed)
	})
	t.Run("store_away", func(t *testing.T) {
		r.store.failing("Append", reason.New(reason.StoreUnavailable, "away"))
		_, err := r.b.RevokeOperator(t.Context(), operator, "a", api.RevokeRequest{})
		wantReason(t, err, reason.StoreUnavailable)
	})
}

// TestThousandRoles: each replica reads all roles each second.
func TestThousandRoles(t *testing.T) {
	r := newRig(t)
	now := r.now()
	for i := range 1000 {
		r.store.operators = append(r.store.operators, ledger.Operator{
			Name: "x", Role: "auditor", SPKISHA256: [32]byte{byte(i), byte(i >> 8)}, CreatedAt: now, ExpiresAt: now.Add(time.Minute),
		})
	}
	r.must(r.b.PollOperators(t.Context()))
	req := api.OperatorRequest{Name: "alice", Role: "auditor", SPKI: ecKey(t, elliptic.P256())}
	_, err := r.b.AddOperator(t.Context(), operator, req)
	wantReason(t, err, reason.RequestOverloaded)
	r.wait(time.Minute)
	r.must(r.b.PollOperators(t.Context()))
	_, err = r.b.AddOperator(t.Context(), operator, req)
	r.must(err)
}

// TestWhoDidIt: what a role certificate does stands in the history under its
// name.
func TestWhoDidIt(t *testing.T) {
	r := newRig(t)
	_, err := r.b.AdmitNode(t.Context(), broker.Caller{Operator: "operator:alice", Role: broker.RoleOperator}, api.AdmitRequest{EKHashes: []string{strings.Repeat("ab", 32)}})
	r.must(err)
	var g ledger.Grant
	r.must(json.Unmarshal(r.store.records[len(r.store.records)-1].Body, &g))
	if g.By != "operator:alice" {
		t.Errorf("granted by %q", g.By)
	}
}
