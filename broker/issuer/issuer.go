// Package issuer makes identities: a replica's own certificate authority and
// JWT keys, X.509-SVIDs and JWT-SVIDs prepared first and signed only after their
// record is committed, the SPIFFE bundle and the OIDC documents, and the trust
// anchor that vouches for the broker's TLS certificates.
//
// It trusts its caller with the decision (who gets which SPIFFE ID, until when)
// and with recording what Prepare returned before Sign. It does not trust it
// with anything else: an X.509-SVID never outlives fresh_until + grace, a
// JWT-SVID never fresh_until, none outlives its key, and each is signed once,
// over exactly the bytes that were prepared.
//
// A private key lives in memory only and ends with the process; its public half
// stands itself in the bundle, so that taking it out ends a stolen key within a
// refresh hint (design section 5).
package issuer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/url"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Lifetimes of keys.
const (
	MaxCALifetime = 24 * time.Hour
	backdate      = time.Minute      // for readers whose clock is behind
	PublishAhead  = 10 * time.Minute // two refresh hints: readers know a new CA before it signs
	minRemaining  = time.Second      // of a CA that still counts as ready
)

// KindCA is the kind of the published key rows.
const KindCA = "x509-ca"

// Config of an Issuer. The zero value of each optional field is safe.
type Config struct {
	TrustDomain string           // required; a SPIFFE trust domain name
	Replica     string           // required; name of this broker in the key rows
	Now         func() time.Time // default time.Now
	Rand        io.Reader        // default crypto/rand
	CALifetime  time.Duration    // default and maximum MaxCALifetime
}

// Issuer signs for one replica. Its methods may be called concurrently.
type Issuer struct {
	td       spiffeid.TrustDomain
	replica  string
	now      func() time.Time
	rand     io.Reader
	lifetime time.Duration

	mu     sync.RWMutex
	active *CA      // guarded by mu; nil before the first Activate
	tokens *JWTKeys // guarded by mu; nil before the first ActivateJWT
}

// New returns an issuer without a CA: NewCA makes one, Activate puts it to use.
func New(cfg Config) (*Issuer, error) {
	td, err := spiffeid.TrustDomainFromString(cfg.TrustDomain)
	if err != nil || td.Name() != cfg.TrustDomain {
		return nil, fmt.Errorf("trust domain %q is not the name of a SPIFFE trust domain", cfg.TrustDomain)
	}
	if cfg.Replica == "" {
		return nil, fmt.Errorf("the issuer needs the name of its replica")
	}
	i := &Issuer{td: td, replica: cfg.Replica, now: cfg.Now, rand: cfg.Rand, lifetime: cfg.CALifetime}
	if i.now == nil {
		i.now = time.Now
	}
	if i.rand == nil {
		i.rand = rand.Reader
	}
	if i.lifetime == 0 {
		i.lifetime = MaxCALifetime
	}
	if i.lifetime < 2*minRemaining || i.lifetime > MaxCALifetime {
		return nil, fmt.Errorf("lifetime of a CA must be between %s and %s", 2*minRemaining, MaxCALifetime)
	}
	return i, nil
}

// CA is a replica's certificate authority. The private key never leaves it.
type CA struct {
	owner   *Issuer
	key     *ecdsa.PrivateKey
	cert    *x509.Certificate
	form    *tbsForm // nil: the library encodes
	id      string
	madeAt  time.Time
	rotates time.Time
}

// Certificate returns the self-signed certificate that stands in the bundle.
func (c *CA) Certificate() *x509.Certificate { return c.cert }

// LogValue keeps the private key out of logs.
func (c *CA) LogValue() slog.Value { return slog.StringValue("ca " + c.id) }

// String keeps the private key out of formatted text.
func (c *CA) String() string { return "ca " + c.id }

// GoString keeps the private key out of formatted text.
func (c *CA) GoString() string { return c.String() }

// NewCA makes a CA that is not in use yet. The caller publishes the key row and,
// not before UseFrom, calls Activate: an SVID of an unpublished CA would be
// refused by every reader.
func (i *Issuer) NewCA(now time.Time) (*CA, ledger.Key, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), i.rand)
	if err != nil {
		return nil, ledger.Key{}, reason.Wrap(reason.IssuerUnavailable, "no key could be made", err)
	}
	id, ski, err := keyIDs(key.Public())
	if err != nil {
		return nil, ledger.Key{}, err
	}
	serial, err := newSerial(i.rand)
	if err != nil {
		return nil, ledger.Key{}, err
	}
	now = now.UTC().Truncate(time.Second)
	notBefore, notAfter := i.lifespan(now)
	template := &x509.Certificate{
		SerialNumber:          new(big.Int).SetBytes(serial[:]),
		Subject:               pkix.Name{Organization: []string{organization}, CommonName: "CA " + id[:16]},
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		URIs:                  []*url.URL{i.td.ID().URL()},
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
		SubjectKeyId:          ski,
	}
	cert, err := selfSign(i.rand, template, key)
	if err != nil {
		return nil, ledger.Key{}, err
	}
	ca := &CA{owner: i, key: key, cert: cert, form: newForm(cert), id: id, madeAt: now, rotates: now.Add(notAfter.Sub(now) / 2)}
	return ca, ledger.Key{ID: id, Kind: KindCA, Replica: i.replica, DER: cert.Raw, NotBefore: cert.NotBefore, NotAfter: cert.NotAfter}, nil
}

// UseFrom returns when a CA may be activated: at once while there is none in
// use, otherwise PublishAhead after it was made, but in time before the one in
// use ends.
func (i *Issuer) UseFrom(ca *CA) time.Time {
	i.mu.RLock()
	defer i.mu.RUnlock()
	if i.active == nil || ca == nil {
		return i.now()
	}
	return i.useFrom(ca.madeAt, i.active.cert.NotAfter)
}

func (i *Issuer) useFrom(madeAt, activeEnds time.Time) time.Time {
	if !madeAt.Before(activeEnds) {
		return i.now()
	}
	latest := madeAt.Add(activeEnds.Sub(madeAt) / 2)
	if from := madeAt.Add(PublishAhead); from.Before(latest) {
		return from
	}
	return latest
}

// lifespan is that of a key made now, backdated, at most MaxCALifetime in all.
func (i *Issuer) lifespan(now time.Time) (notBefore, notAfter time.Time) {
	notBefore, notAfter = now.Add(-backdate), now.Add(i.lifetime)
	if most := notBefore.Add(MaxCALifetime); notAfter.After(most) {
		notAfter = most
	}
	return notBefore, notAfter
}

// Activate puts a CA of this issuer to use. What was prepared under the one
// before is still signed by that one. It returns issuer.unavailable for a CA of
// another issuer or outside its lifetime.
func (i *Issuer) Activate(ca *CA) error {
	if ca == nil || ca.owner != i || !ca.usable(i.now()) {
		return reason.New(reason.IssuerUnavailable, "the signing key is not this replica's or has ended")
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.active = ca
	return nil
}

// RotateAt returns when the next CA is due: at half life of the one in use, the
// zero time while there is none.
func (i *Issuer) RotateAt() time.Time {
	i.mu.RLock()
	defer i.mu.RUnlock()
	if i.active == nil {
		return time.Time{}
	}
	return i.active.rotates
}

// Ready returns issuer.unavailable unless a CA is in use and lives at now.
func (i *Issuer) Ready(now time.Time) error {
	_, err := i.current(now)
	return err
}

func (i *Issuer) current(now time.Time) (*CA, error) {
	i.mu.RLock()
	defer i.mu.RUnlock()
	if i.active == nil || !i.active.usable(now) {
		return nil, reason.New(reason.IssuerUnavailable, "no signing key is ready")
	}
	return i.active, nil
}

func (c *CA) usable(now time.Time) bool {
	return !now.Before(c.cert.NotBefore) && now.Add(minRemaining).Before(c.cert.NotAfter)
}

const organization = "Zonebroker"

// keyIDs returns the hex SHA-256 of the SPKI, and the subject key identifier of
// RFC 7093 2 method 1: the first 20 bytes of SHA-256 over the key bits.
func keyIDs(pub crypto.PublicKey) (id string, ski []byte, err error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", nil, fmt.Errorf("encode public key: %w", err)
	}
	return spkiIDs(der)
}

func spkiIDs(der []byte) (id string, ski []byte, err error) {
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if rest, err := asn1.Unmarshal(der, &spki); err != nil || len(rest) > 0 {
		return "", nil, reason.Wrap(reason.RequestMalformed, "the key is not a SubjectPublicKeyInfo", err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), keyID(spki.Key.Bytes), nil
}

func keyID(bits []byte) []byte {
	sum := sha256.Sum256(bits)
	return sum[:keyIDSize]
}

// newSerial returns a positive number of exactly 16 bytes with 126 random bits:
// an unguessable serial is what made chosen-prefix collisions harmless.
func newSerial(random io.Reader) (serial [16]byte, err error) {
	if _, err := io.ReadFull(random, serial[:]); err != nil {
		return serial, reason.Wrap(reason.IssuerUnavailable, "no random bytes", err)
	}
	serial[0] = serial[0]&0x7f | 0x40
	return serial, nil
}

func selfSign(random io.Reader, template *x509.Certificate, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(random, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign own certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}
