package documenttest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // a message that has to be refused
	"crypto/sha256"
	"crypto/x509"
	encoding_asn1 "encoding/asn1"
	"math/big"
	"sync"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Object identifiers of signed messages.
var (
	OIDData          = encoding_asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	OIDSignedData    = encoding_asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	OIDSHA1          = encoding_asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
	OIDSHA256        = encoding_asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	OIDSHA256WithRSA = encoding_asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}
	OIDRSA           = encoding_asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	OIDContentType   = encoding_asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	OIDMessageDigest = encoding_asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	OIDSigningTime   = encoding_asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 5}
)

// RSASigner is a certificate with its key.
type RSASigner struct {
	Certificate *x509.Certificate
	Key         *rsa.PrivateKey
}

// Attribute is a signed attribute; Values is the content of its SET in DER.
type Attribute struct {
	ID     encoding_asn1.ObjectIdentifier
	Values []byte
}

// Message is what PKCS7 makes. The zero value of each member beside Content and
// Signers is what a correct message has.
type Message struct {
	Content []byte
	Signers []RSASigner
	Bag     []*x509.Certificate

	Type      encoding_asn1.ObjectIdentifier // of the content; data
	Digest    encoding_asn1.ObjectIdentifier // SHA-256
	Algorithm encoding_asn1.ObjectIdentifier // of the signature; rsaEncryption
	Version   int                            // 1
	// SignerVersion is 1 too.
	SignerVersion int
	Detached      bool
	NoAttributes  bool
	Indefinite    bool // BER as AWS writes it: open lengths, the content in pieces
	// Attributes changes the signed attributes, Unsigned is appended to the signer,
	// Lists to the lists of SignedData before the signers.
	Attributes func([]Attribute) []Attribute
	Unsigned   []byte
	Lists      []byte
	// Name changes the signer's name (issuer and serial number, DER).
	Name func(name []byte) []byte
}

// PKCS7 makes a signed message.
func PKCS7(m Message) []byte {
	m = m.defaults()
	var signers []byte
	for _, s := range m.Signers {
		signers = append(signers, m.signer(s)...)
	}
	content := oid(m.Type)
	if !m.Detached {
		content = append(content, m.wrap(0xa0, m.octets(m.Content))...)
	}
	digests := []byte(nil)
	if len(m.Signers) > 0 {
		digests = algorithm(m.Digest)
	}
	body := append(number(m.Version), m.wrap(0x31, digests)...)
	body = append(body, m.wrap(0x30, content)...)
	if len(m.Bag) > 0 {
		var bag []byte
		for _, c := range m.Bag {
			bag = append(bag, c.Raw...)
		}
		body = append(body, m.wrap(0xa0, bag)...)
	}
	body = append(append(body, m.Lists...), m.wrap(0x31, signers)...)
	return m.wrap(0x30, append(oid(OIDSignedData), m.wrap(0xa0, m.wrap(0x30, body))...))
}

func (m Message) defaults() Message {
	if m.Type == nil {
		m.Type = OIDData
	}
	if m.Digest == nil {
		m.Digest = OIDSHA256
	}
	if m.Algorithm == nil {
		m.Algorithm = OIDRSA
	}
	if m.Version == 0 {
		m.Version = 1
	}
	if m.SignerVersion == 0 {
		m.SignerVersion = 1
	}
	return m
}

func (m Message) signer(s RSASigner) []byte {
	name := append(append([]byte{}, s.Certificate.RawIssuer...), serial(s.Certificate.SerialNumber)...)
	name = wrap(0x30, name)
	if m.Name != nil {
		name = m.Name(name)
	}
	signed, attributes := m.Content, []byte(nil)
	if !m.NoAttributes {
		list := []Attribute{
			{OIDContentType, oid(m.Type)},
			{OIDSigningTime, wrap(0x17, []byte("261120094748Z"))},
			{OIDMessageDigest, wrap(0x04, m.sum(m.Content))},
		}
		if m.Attributes != nil {
			list = m.Attributes(list)
		}
		var body []byte
		for _, a := range list {
			body = append(body, wrap(0x30, append(oid(a.ID), wrap(0x31, a.Values)...))...)
		}
		signed, attributes = wrap(0x31, body), m.wrap(0xa0, body)
	}
	hash := crypto.SHA256
	if m.Digest.Equal(OIDSHA1) {
		hash = crypto.SHA1
	}
	signature, err := rsa.SignPKCS1v15(nil, s.Key, hash, m.sum(signed))
	if err != nil {
		panic(err) // the digest is of its length
	}
	body := append(number(m.SignerVersion), name...)
	body = append(append(body, algorithm(m.Digest)...), attributes...)
	body = append(append(body, algorithm(m.Algorithm)...), wrap(0x04, signature)...)
	return m.wrap(0x30, append(body, m.Unsigned...))
}

func (m Message) sum(b []byte) []byte {
	if m.Digest.Equal(OIDSHA1) {
		sum := sha1.Sum(b) //nolint:gosec // see above
		return sum[:]
	}
	sum := sha256.Sum256(b)
	return sum[:]
}

func (m Message) wrap(tag byte, body []byte) []byte {
	if m.Indefinite {
		return append(append([]byte{tag, 0x80}, body...), 0, 0)
	}
	return wrap(tag, body)
}

// octets writes an octet string, in two pieces where lengths are open.
func (m Message) octets(body []byte) []byte {
	if !m.Indefinite {
		return wrap(0x04, body)
	}
	half := len(body) / 2
	return m.wrap(0x24, append(wrap(0x04, body[:half]), wrap(0x04, body[half:])...))
}

func wrap(tag byte, body []byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(asn1.Tag(tag), func(b *cryptobyte.Builder) { b.AddBytes(body) })
	return b.BytesOrPanic()
}

func oid(id encoding_asn1.ObjectIdentifier) []byte {
	var b cryptobyte.Builder
	b.AddASN1ObjectIdentifier(id)
	return b.BytesOrPanic()
}

func number(n int) []byte {
	var b cryptobyte.Builder
	b.AddASN1Int64(int64(n))
	return b.BytesOrPanic()
}

func serial(n *big.Int) []byte {
	var b cryptobyte.Builder
	b.AddASN1BigInt(n)
	return b.BytesOrPanic()
}

func algorithm(id encoding_asn1.ObjectIdentifier) []byte {
	return wrap(0x30, append(oid(id), 5, 0))
}

// RSAKey returns one of four RSA-2048 keys, made at the first use and kept: keys
// cost more than everything that is tested with them.
func RSAKey(n int) *rsa.PrivateKey { return signingKeys[n]() }

var signingKeys = [4]func() *rsa.PrivateKey{
	sync.OnceValue(newRSAKey), sync.OnceValue(newRSAKey), sync.OnceValue(newRSAKey), sync.OnceValue(newRSAKey),
}

func newRSAKey() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err) // the system has no random numbers
	}
	return key
}

// Certify issues a certificate for key under issuer, or self-signed where issuer
// is nil. Validity is five years around at, which template can change.
func Certify(template *x509.Certificate, key *rsa.PrivateKey, issuer *RSASigner, at time.Time) RSASigner {
	t := *template
	if t.SerialNumber == nil {
		t.SerialNumber = big.NewInt(at.Unix())
	}
	if t.NotBefore.IsZero() {
		t.NotBefore, t.NotAfter = at.AddDate(-2, 0, 0), at.AddDate(3, 0, 0)
	}
	t.BasicConstraintsValid = true
	by := RSASigner{&t, key}
	if issuer != nil {
		by = *issuer
	}
	der, err := x509.CreateCertificate(rand.Reader, &t, by.Certificate, key.Public(), by.Key)
	if err != nil {
		panic(err) // a template that nobody can sign
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return RSASigner{c, key}
}
