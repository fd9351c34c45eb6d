package broker_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

var (
	cluster = [32]byte{1, 2, 3}
	issued  = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
)

// TestTPM23_T5_TokenExpiry is half-open: at exactly its expiry a token is expired.
func TestTPM23_T5_TokenExpiry(t *testing.T) {
	token, err := broker.SealAt(cluster, issued, broker.TokenTTL)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		at   time.Duration
		want reason.Code
	}{
		{"at once", 0, ""},
		{"a millisecond before its end", broker.TokenTTL - time.Millisecond, ""},
		{"at its end", broker.TokenTTL, reason.ChallengeExpired},
		{"61 seconds later", 61 * time.Second, reason.ChallengeExpired},
		{"two epochs later", 2 * time.Hour, reason.ChallengeInvalid},
		{"long before it was issued", -3 * time.Hour, reason.ChallengeInvalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			version, err := broker.OpenAt(cluster, token, issued.Add(tt.at))
			if reason.Of(err) != tt.want {
				t.Errorf("opened with %v, want %q", err, tt.want)
			}
			if err == nil && version != 7 {
				t.Errorf("version %d came out, 7 went in", version)
			}
		})
	}
}

// TestTPM25_AlteredTokens: no bit of a token can change, and no other cluster
// opens it.
func TestTPM25_AlteredTokens(t *testing.T) {
	token, err := broker.SealAt(cluster, issued, broker.TokenTTL)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		raw[i] ^= 1
		if _, err := broker.OpenAt(cluster, base64.RawURLEncoding.EncodeToString(raw), issued); reason.Of(err) != reason.ChallengeInvalid {
			t.Errorf("byte %d altered: %v", i, err)
		}
		raw[i] ^= 1
	}
	for n := range raw {
		if _, err := broker.OpenAt(cluster, base64.RawURLEncoding.EncodeToString(raw[:n]), issued); reason.Of(err) != reason.ChallengeInvalid {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	if _, err := broker.OpenAt([32]byte{9}, token, issued); reason.Of(err) != reason.ChallengeInvalid {
		t.Errorf("another cluster's key: %v", err)
	}
}

func FuzzOpenToken(f *testing.F) {
	token, err := broker.SealAt(cluster, issued, broker.TokenTTL)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(token)
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := broker.OpenAt(cluster, s, issued); err == nil && s != token {
			t.Errorf("a token that nobody sealed opens: %q", s)
		}
	})
}

// TestStandingComesFromExpiry: no flag keeps a node trusted.
func TestStandingComesFromExpiry(t *testing.T) {
	st := ledger.NodeState{
		Last: uuid.New(), Verdict: ledger.VerdictAllow,
		FreshUntil: issued.Add(time.Minute), ExpiresAt: issued.Add(time.Hour),
	}
	denied := st
	denied.Verdict = ledger.VerdictDeny
	for _, tt := range []struct {
		name string
		st   ledger.NodeState
		at   time.Duration
		want string
	}{
		{"never attested", ledger.NodeState{}, 0, "none"},
		{"before fresh_until", st, 59 * time.Second, "fresh"},
		{"at fresh_until", st, time.Minute, "stale"},
		{"at the certificate's end", st, time.Hour, "expired"},
		{"denied since, with a live SVID", denied, 0, "fresh"},
		{"denied since, past its end", denied, time.Hour, "expired"},
		{"never accepted", ledger.NodeState{Verdict: ledger.VerdictDeny}, 0, "denied"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := broker.Standing(tt.st, issued.Add(tt.at)); got != tt.want {
				t.Errorf("standing %q, want %q", got, tt.want)
			}
		})
	}
}

// TestTokenKeyIsHKDF: extracting the cluster key once gives the key of RFC 5869
// over all of it, so that replicas of two releases open each other's tokens.
func TestTokenKeyIsHKDF(t *testing.T) {
	token, err := broker.SealAt(cluster, issued, broker.TokenTTL)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	head := raw[:37] // version, epoch, random
	key, err := hkdf.Key(sha256.New, cluster[:], nil, "zonebroker-challenge-v1"+string(head[1:]), 32)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	box, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := box.Open(nil, make([]byte, box.NonceSize()), raw[37:], head); err != nil || plain[0] != '{' {
		t.Errorf("%s %v", plain, err)
	}
}
