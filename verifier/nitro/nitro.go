package nitro

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha512"
	"crypto/x509"
	"time"

	"github.com/zonebroker/zonebroker/verifier/cose"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Type says what a document is about.
type Type int

// Types. They share keys and roots, so one must never be taken for the other: the
// PCRs of an instance mean other things.
const (
	Enclave  Type = iota // map "pcrs"
	Instance             // map "nitrotpm_pcrs"
)

// Limits of a document.
const (
	// MaxDocument bounds a document in bytes. NSM answers with at most 12 KiB.
	MaxDocument = cose.MaxSize
	// MaxField bounds nonce, user_data and public_key in bytes (nsm.h: 1024 for the
	// key; the other two were 512 once).
	MaxField = 1024
	// PCRs is the number of registers that an index may name.
	PCRs = 32
	// PCRSize is the size of a register in bytes: the digest has to be SHA384.
	PCRSize = sha512.Size384

	// window in which a document's own time has to lie: young enough to be an answer
	// to a challenge, with some room for a clock that is ahead.
	maxAge   = 5 * time.Minute
	maxAhead = time.Minute
)

// Expectation is what a document has to say.
type Expectation struct {
	Type Type
	// Nonce has to be the document's nonce. Without one nothing is compared, and the
	// document is a bearer document.
	Nonce []byte
}

// Document is a verified document. The zero value says nothing.
type Document struct {
	kind       Type
	moduleID   string
	instanceID string
	enclaveID  string
	region     string
	timestamp  time.Time
	notAfter   time.Time
	pcrs       map[int][]byte
	nonce      []byte
	userData   []byte
	publicKey  []byte
	bound      bool
}

// Verify judges a document under trust at the time now. Errors, in the order of
// the checks: those of cose.Parse with ES384 and of cose.Decode for the content;
// of the content, which is a stranger's until its signature was looked at,
// nitro.type, nitro.fields, nitro.digest, nitro.pcr; nitro.fields (certificate or
// bundle missing), nitro.cabundle, nitro.leaf, nitro.untrusted (root),
// nitro.validity, nitro.untrusted (links), cose.signature; nitro.leaf (another
// module's certificate), nitro.timestamp, nitro.nonce_mismatch; cbor.malformed for
// a member of another type.
//
// An enclave in debug mode is no error but a hazard of Facts.
func Verify(raw []byte, want Expectation, trust Trust, now time.Time) (Document, error) {
	if len(raw) > MaxDocument {
		return Document{}, reason.New(reason.RequestTooLarge, "the document is longer than 64 KiB")
	}
	message, err := cose.Parse(raw, cose.ES384)
	if err != nil {
		return Document{}, err
	}
	content, err := cose.Decode(message.Payload())
	if err != nil {
		return Document{}, err
	}
	d, err := read(content, want.Type)
	if err != nil {
		return Document{}, err
	}
	leaf, err := trust.certify(content, now)
	if err != nil {
		return Document{}, err
	}
	if err := message.Verify(leaf.PublicKey.(*ecdsa.PublicKey)); err != nil {
		return Document{}, err
	}
	if err := d.certified(leaf); err != nil {
		return Document{}, err
	}
	if err := d.timely(leaf, now); err != nil {
		return Document{}, err
	}
	if len(want.Nonce) > 0 {
		if !bytes.Equal(d.nonce, want.Nonce) {
			return Document{}, reason.New(reason.NitroNonceMismatch, "the nonce is not the one that was asked for, or missing")
		}
		d.bound = true
	}
	return d, nil
}

// certify returns the certificate of the document once its chain is good.
func (t Trust) certify(content cose.Map, now time.Time) (*x509.Certificate, error) {
	der, err := content.Bytes("certificate")
	if err != nil {
		return nil, err
	}
	bundle, err := content.Array("cabundle")
	if err != nil {
		return nil, err
	}
	if len(der) == 0 || bundle == nil {
		return nil, reason.New(reason.NitroFields, "certificate or cabundle is missing")
	}
	issuers, err := parseBundle(bundle)
	if err != nil {
		return nil, err
	}
	leaf, err := parseLeaf(der)
	if err != nil {
		return nil, err
	}
	return leaf, t.verifyChain(issuers, leaf, now)
}

// timely: a document is fresh by the broker's clock, and was made within the
// validity of the key that signed it. Millisecond and second are compared as they
// are: NSM makes the leaf seconds before the document.
func (d *Document) timely(leaf *x509.Certificate, now time.Time) error {
	if d.timestamp.Before(now.Add(-maxAge)) || d.timestamp.After(now.Add(maxAhead)) {
		return reason.Newf(reason.NitroTimestamp, "made at %s, which is not within five minutes before and one after %s",
			d.timestamp.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	if d.timestamp.Before(leaf.NotBefore) || d.timestamp.After(leaf.NotAfter) {
		return reason.New(reason.NitroTimestamp, "made outside of the validity of its certificate")
	}
	d.notAfter = leaf.NotAfter
	return nil
}

// ModuleID returns the name of the enclave or instance as its hypervisor gave it.
func (d Document) ModuleID() string { return d.moduleID }

// InstanceID returns the instance, i-…; that of an enclave is its parent.
func (d Document) InstanceID() string { return d.instanceID }

// Region returns the AWS region, from the certificate.
func (d Document) Region() string { return d.region }

// Timestamp returns when the document was made.
func (d Document) Timestamp() time.Time { return d.timestamp }

// PCR returns a register, nil where the document has none of that index. The
// slice is the document's.
func (d Document) PCR(i int) []byte { return d.pcrs[i] }

// Nonce returns the nonce, nil for none. The slice is the document's.
func (d Document) Nonce() []byte { return d.nonce }

// UserData returns what the enclave or instance put in, nil for none. The slice is
// the document's.
func (d Document) UserData() []byte { return d.userData }

// PublicKey returns the key that the enclave or instance put in, nil for none, in
// whatever form: nothing here reads it. The slice is the document's.
func (d Document) PublicKey() []byte { return d.publicKey }
