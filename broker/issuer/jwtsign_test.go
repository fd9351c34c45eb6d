package issuer_test

import (
	"crypto"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/zonebroker/zonebroker/broker/issuer"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// publicOnly is a key whose private half is out of reach.
type publicOnly struct {
	t   testing.TB
	pub crypto.PublicKey
}

func (p publicOnly) Public() crypto.PublicKey { return p.pub }

func (p publicOnly) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	p.t.Error("a private key was used")
	return nil, errors.New("no")
}

// broken signs something else than it is asked for, as a fault would.
type broken struct{ crypto.Signer }

func (b broken) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	other := append([]byte(nil), digest...)
	other[0] ^= 1
	return b.Signer.Sign(random, other, opts)
}

// garbled answers with what is no signature.
type garbled struct{ crypto.Signer }

func (g garbled) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return []byte("signature"), nil
}

func TestInvariant1_prepareJWTDoesNotUseAKey(t *testing.T) {
	i, c, _ := newTokenIssuer(t, start, 0)
	keys, _, err := i.NewJWTKeys(start)
	if err != nil {
		t.Fatal(err)
	}
	if err := i.ActivateJWT(keys); err != nil {
		t.Fatal(err)
	}
	ec, rsa := keys.SwapSigners(nil, nil)
	for _, to := range []string{audience, issuer.AudienceEntra} {
		req := jwtRequest(c.now())
		req.Audience = to
		keys.SwapSigners(publicOnly{t, ec.Public()}, publicOnly{t, rsa.Public()})
		p, err := i.PrepareJWT(req)
		if err != nil {
			t.Fatalf("without the private key: %v", err)
		}
		keys.SwapSigners(ec, rsa)
		if _, err := i.SignJWT(p); err != nil {
			t.Errorf("with the key: %v", err)
		}
		for name, swap := range map[string][2]crypto.Signer{
			"faulty": {broken{ec}, broken{rsa}}, "garbled": {garbled{ec}, garbled{rsa}}, "another key": {newKey(t), newKey(t)},
		} {
			p, err := i.PrepareJWT(req)
			if err != nil {
				t.Fatal(err)
			}
			keys.SwapSigners(swap[0], swap[1])
			if token, err := i.SignJWT(p); reason.Of(err) != reason.Internal || token != "" {
				t.Errorf("%s: signed %s: %v", name, to, err)
			}
			keys.SwapSigners(ec, rsa)
		}
	}
}

func TestSignJWTIsForExactlyTheRecordedInput(t *testing.T) {
	i, c, _ := newTokenIssuer(t, start, 0)
	prepare := func() *issuer.PreparedJWT {
		p, err := i.PrepareJWT(jwtRequest(c.now()))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := prepare()
	token, err := i.SignJWT(p)
	if err != nil || token[:strings.LastIndex(token, ".")] != p.Input() {
		t.Errorf("the signed input is not the prepared one: %v", err)
	}
	for name, edit := range map[string]func(*issuer.PreparedJWT){
		"recorded input changed": (*issuer.PreparedJWT).Break,
		"payload changed":        (*issuer.PreparedJWT).Rewrite,
	} {
		p := prepare()
		edit(p)
		token, err := i.SignJWT(p)
		if reason.Of(err) != reason.Internal || token != "" {
			t.Errorf("%s: %v", name, err)
		}
		// The gate in front of the key refuses, not the comparison afterwards.
		if cause := errors.Unwrap(err); cause == nil || !strings.HasPrefix(cause.Error(), "sign token") {
			t.Errorf("%s: %v", name, cause)
		}
	}
}

// Were the library to sign another input than it showed, the comparison would
// find out.
func TestSignedTokenIsCompared(t *testing.T) {
	i, c, _ := newTokenIssuer(t, start, 0)
	p, err := i.PrepareJWT(jwtRequest(c.now()))
	if err != nil {
		t.Fatal(err)
	}
	token, err := i.SignJWT(p)
	if err != nil || p.Check(token) != nil {
		t.Fatalf("its own token: %v, %v", err, p.Check(token))
	}
	req := jwtRequest(c.now())
	req.Audience = "billing-api"
	other, _ := issueJWT(t, i, req)
	for name, token := range map[string]string{"another token": other, "more parts": token + ".a", "no signature": p.Input() + ".", "nothing": ""} {
		if p.Check(token) == nil {
			t.Errorf("%s passes", name)
		}
	}
}

func TestSignJWTIsSingleUse(t *testing.T) {
	i, c, _ := newTokenIssuer(t, start, 0)
	p, err := i.PrepareJWT(jwtRequest(c.now()))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	signed := 0
	for range 16 {
		wg.Go(func() {
			if _, err := i.SignJWT(p); err == nil {
				mu.Lock()
				signed++
				mu.Unlock()
			} else if reason.Of(err) != reason.Internal {
				t.Errorf("second call: %v", err)
			}
		})
	}
	wg.Wait()
	if signed != 1 {
		t.Errorf("%d signatures for one record", signed)
	}
	failed, err := i.PrepareJWT(jwtRequest(c.now()))
	if err != nil {
		t.Fatal(err)
	}
	failed.Break()
	if _, err := i.SignJWT(failed); err == nil {
		t.Error("a changed input is signed")
	}
	failed.Break()
	if _, err := i.SignJWT(failed); reason.Of(err) != reason.Internal {
		t.Errorf("retry after a failure: %v", err)
	}
}

func TestSignJWTRefusesForeignPreparedAndEndedKeys(t *testing.T) {
	one, c, _ := newTokenIssuer(t, start, 0)
	two, _, _ := newTokenIssuer(t, start, 0)
	p, err := one.PrepareJWT(jwtRequest(c.now()))
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]*issuer.PreparedJWT{"foreign": p, "zero": {}, "nil": nil} {
		if _, err := two.SignJWT(p); reason.Of(err) != reason.Internal {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := one.SignJWT(p); err != nil {
		t.Errorf("a foreign try used it up: %v", err)
	}
	late, err := one.PrepareJWT(jwtRequest(c.now()))
	if err != nil {
		t.Fatal(err)
	}
	c.at = start.AddDate(0, 0, 1)
	if _, err := one.SignJWT(late); reason.Of(err) != reason.IssuerUnavailable {
		t.Errorf("keys ended: %v", err)
	}
}

func BenchmarkIssueJWT(b *testing.B) {
	i, c, _ := newTokenIssuer(b, start, 0)
	for name, to := range map[string]string{"ES256": audience, "RS256": issuer.AudienceEntra} {
		b.Run(name, func(b *testing.B) {
			req := jwtRequest(c.now())
			req.Audience = to
			b.ReportAllocs()
			for b.Loop() {
				issueJWT(b, i, req)
			}
		})
	}
}

func BenchmarkNewJWTKeys(b *testing.B) {
	i, c, _ := newTokenIssuer(b, start, 0)
	for b.Loop() {
		if _, _, err := i.NewJWTKeys(c.now()); err != nil {
			b.Fatal(err)
		}
	}
}
