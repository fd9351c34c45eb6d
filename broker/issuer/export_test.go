package issuer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Break changes the recorded bytes, as a fault in memory would.
func (p *Prepared) Break() { p.tbs[len(p.tbs)-1] ^= 1 }

// Rerecord changes what the record says of the bytes.
func (p *Prepared) Rerecord(digest string) { p.record.TBSSHA256 = digest }

// Template is what the bytes were made of, and the CA.
func (p *Prepared) Template() (template, parent *x509.Certificate, key crypto.Signer) {
	t := p.leaf.template()
	t.PublicKey, _ = x509.ParsePKIXPublicKey(p.leaf.spki)
	return t, p.ca.cert, p.ca.key
}

// SwapKey gives the CA another private key and returns the old one.
func (c *CA) SwapKey(key *ecdsa.PrivateKey) *ecdsa.PrivateKey {
	old := c.key
	c.key = key
	return old
}

// Break changes the recorded signing input, as a fault in memory would.
func (p *PreparedJWT) Break() { p.input[len(p.input)-1] ^= 1 }

// Rewrite changes the payload behind the recorded signing input.
func (p *PreparedJWT) Rewrite() { p.payload[len(p.payload)-2] ^= 1 }

// Input returns the recorded signing input.
func (p *PreparedJWT) Input() string { return string(p.input) }

// SwapSigners gives the keys other private keys and returns the old ones.
func (k *JWTKeys) SwapSigners(ec, rsa crypto.Signer) (crypto.Signer, crypto.Signer) {
	oldEC, oldRSA := k.ec.signer, k.rsa.signer
	k.ec.signer, k.rsa.signer = ec, rsa
	return oldEC, oldRSA
}

// Check compares a token with what was recorded.
func (p *PreparedJWT) Check(token string) error { return p.check(token, p.keys.forAlgorithm(p.alg)) }

// Leaf is what a certificate is written from.
type Leaf struct {
	Serial              [16]byte
	NotBefore, NotAfter time.Time
	Name                string
	ID                  spiffeid.ID
	SPKI, Claim         []byte
}

// SubjectKey checks a key and returns its identifier.
func SubjectKey(spki []byte) ([]byte, error) { return subjectKey(spki) }

// TBS returns the bytes to be signed as the form of the CA writes them, if it
// does, and as the library does.
func (c *CA) TBS(l Leaf, ski []byte) (direct []byte, ok bool, library []byte, err error) {
	in := &leaf{
		serial: l.Serial, notBefore: l.NotBefore.UTC(), notAfter: l.NotAfter.UTC(), name: l.Name, id: l.ID,
		spki: l.SPKI, ski: ski, claim: l.Claim,
	}
	direct, ok = c.form.write(in)
	library, err = libraryTBS(in, c.cert)
	return direct, ok, library, err
}

// HasForm reports whether certificates of such a CA are written by the form.
func HasForm(ca *x509.Certificate) bool { return newForm(ca) != nil }

// DropForm leaves the encoding to the library.
func (c *CA) DropForm() { c.form = nil }
