package issuer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"log/slog"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Kinds of the published rows of JWT keys. DER of such a row is the key's SPKI,
// its ID the hex SHA-256 of that, which is also the kid of tokens.
const (
	KindJWTES256 = "jwt-es256"
	KindJWTRS256 = "jwt-rs256"
)

// rsaBits is what NIST SP 800-57 allows until 2030; such a key lives a day.
const rsaBits = 2048

// AudienceEntra is the audience of workload identity federation at Microsoft
// Entra, which takes RSA signatures only (AADSTS5002738).
const AudienceEntra = "api://AzureADTokenExchange"

// algorithm returns how a token for an audience is signed: ES256, and RS256
// where the audience is known to take nothing else.
func algorithm(audience string) jose.SignatureAlgorithm {
	if audience == AudienceEntra {
		return jose.RS256
	}
	return jose.ES256
}

// JWTKeys is a replica's pair of keys for JWT-SVIDs. The private keys never
// leave it.
type JWTKeys struct {
	owner     *Issuer
	ec, rsa   jwtKey
	notBefore time.Time
	notAfter  time.Time
	madeAt    time.Time
	rotates   time.Time
}

type jwtKey struct {
	id     string
	public crypto.PublicKey // as published
	signer crypto.Signer
}

// LogValue keeps the private keys out of logs.
func (k *JWTKeys) LogValue() slog.Value { return slog.StringValue(k.String()) }

// String keeps the private keys out of formatted text.
func (k *JWTKeys) String() string { return "jwt keys " + k.ec.id + " " + k.rsa.id }

// GoString keeps the private keys out of formatted text.
func (k *JWTKeys) GoString() string { return k.String() }

// NewJWTKeys makes an ES256 and an RS256 key that are not in use yet; they live
// as long as a CA. The caller publishes both rows and, not before UseJWTFrom,
// calls ActivateJWT: a token under an unpublished key would be refused by every
// reader. It returns issuer.unavailable where no key could be made. Making the
// RSA key takes some tenths of a second of one core.
func (i *Issuer) NewJWTKeys(now time.Time) (*JWTKeys, []ledger.Key, error) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), i.rand)
	if err != nil {
		return nil, nil, reason.Wrap(reason.IssuerUnavailable, "no key could be made", err)
	}
	large, err := rsa.GenerateKey(i.rand, rsaBits)
	if err != nil {
		return nil, nil, reason.Wrap(reason.IssuerUnavailable, "no key could be made", err)
	}
	now = now.UTC().Truncate(time.Second)
	k := &JWTKeys{owner: i, madeAt: now, ec: jwtKey{public: ec.Public(), signer: ec}, rsa: jwtKey{public: large.Public(), signer: large}}
	k.notBefore, k.notAfter = i.lifespan(now)
	k.rotates = now.Add(k.notAfter.Sub(now) / 2)
	var rows []ledger.Key
	for _, part := range []struct {
		kind string
		key  *jwtKey
	}{{KindJWTES256, &k.ec}, {KindJWTRS256, &k.rsa}} {
		der, err := x509.MarshalPKIXPublicKey(part.key.public)
		if err != nil {
			return nil, nil, reason.Wrap(reason.IssuerUnavailable, "no key could be made", err)
		}
		if part.key.id, _, err = spkiIDs(der); err != nil {
			return nil, nil, err
		}
		rows = append(rows, ledger.Key{
			ID: part.key.id, Kind: part.kind, Replica: i.replica, DER: der, NotBefore: k.notBefore, NotAfter: k.notAfter,
		})
	}
	return k, rows, nil
}

// UseJWTFrom returns when keys may be activated, by the rule of UseFrom.
func (i *Issuer) UseJWTFrom(k *JWTKeys) time.Time {
	i.mu.RLock()
	defer i.mu.RUnlock()
	if i.tokens == nil || k == nil {
		return i.now()
	}
	return i.useFrom(k.madeAt, i.tokens.notAfter)
}

// ActivateJWT puts keys of this issuer to use. What was prepared under the ones
// before is still signed by those. It returns issuer.unavailable for keys of
// another issuer or outside their lifetime.
func (i *Issuer) ActivateJWT(k *JWTKeys) error {
	if k == nil || k.owner != i || !k.usable(i.now()) {
		return reason.New(reason.IssuerUnavailable, "the token keys are not this replica's or have ended")
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.tokens = k
	return nil
}

// RotateJWTAt returns when the next keys are due: at half life of those in use,
// the zero time while there are none.
func (i *Issuer) RotateJWTAt() time.Time {
	i.mu.RLock()
	defer i.mu.RUnlock()
	if i.tokens == nil {
		return time.Time{}
	}
	return i.tokens.rotates
}

// ReadyJWT returns issuer.unavailable unless token keys are in use and live at
// now.
func (i *Issuer) ReadyJWT(now time.Time) error {
	_, err := i.currentJWT(now)
	return err
}

func (i *Issuer) currentJWT(now time.Time) (*JWTKeys, error) {
	i.mu.RLock()
	defer i.mu.RUnlock()
	if i.tokens == nil || !i.tokens.usable(now) {
		return nil, reason.New(reason.IssuerUnavailable, "no token key is ready")
	}
	return i.tokens, nil
}

func (k *JWTKeys) usable(now time.Time) bool {
	return !now.Before(k.notBefore) && now.Add(minRemaining).Before(k.notAfter)
}

func (k *JWTKeys) forAlgorithm(alg jose.SignatureAlgorithm) jwtKey {
	if alg == jose.RS256 {
		return k.rsa
	}
	return k.ec
}
