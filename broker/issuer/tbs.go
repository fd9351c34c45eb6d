package issuer

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Certificates of one CA differ in a few members. tbsForm writes them around
// what it encoded once, and x509.CreateCertificate is what it is measured by:
// each CA compares the two for a probe before it signs, tests and fuzzing for
// everything that can be asked for. What the form is not made for, and all of it
// where the probe differs, is encoded by the library.

// leaf is what makes one certificate of a CA different from the next.
type leaf struct {
	serial    [16]byte
	notBefore time.Time // UTC, whole seconds
	notAfter  time.Time
	name      string // common name
	id        spiffeid.ID
	spki      []byte // in the library's encoding, see subjectKey
	ski       []byte
	claim     []byte // value of the extension id-pe-cmw
}

// template applies the X.509-SVID profile: one URI SAN, digitalSignature, no CA.
func (l *leaf) template() *x509.Certificate {
	return &x509.Certificate{
		SerialNumber:          new(big.Int).SetBytes(l.serial[:]),
		Subject:               pkix.Name{Organization: []string{organization}, CommonName: l.name},
		NotBefore:             l.notBefore,
		NotAfter:              l.notAfter,
		URIs:                  []*url.URL{l.id.URL()},
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		SubjectKeyId:          l.ski,
		ExtraExtensions:       []pkix.Extension{{Id: oidCMW, Value: l.claim}},
		SignatureAlgorithm:    x509.ECDSAWithSHA256,
	}
}

// Parts of the certificate that no CA changes, in DER (RFC 5280, sections 4.1
// and 4.2).
const (
	derVersion3     = "\xa0\x03\x02\x01\x02"
	derECDSASHA256  = "\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02" // RFC 5758, section 3.2
	derOrganization = "\x31\x13\x30\x11\x06\x03\x55\x04\x0a\x13\x0a" + organization
	derCommonName   = "\x06\x03\x55\x04\x03"
	derUsages       = "\x30\x0e\x06\x03\x55\x1d\x0f\x01\x01\xff\x04\x04\x03\x02\x07\x80" + // digitalSignature
		"\x30\x1d\x06\x03\x55\x1d\x25\x04\x16\x30\x14\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x02" + // server, client
		"\x30\x0c\x06\x03\x55\x1d\x13\x01\x01\xff\x04\x02\x30\x00" // no CA
	derSubjectKey   = "\x30\x1d\x06\x03\x55\x1d\x0e\x04\x16\x04\x14"
	derAuthorityKey = "\x30\x1f\x06\x03\x55\x1d\x23\x04\x18\x30\x16\x80\x14"
	derSubjectName  = "\x06\x03\x55\x1d\x11"
	derClaim        = "\x06\x08\x2b\x06\x01\x05\x05\x07\x01\x23" // id-pe-cmw
	derUTCTime      = "060102150405Z"
	keyIDSize       = 20 // bytes of a key identifier
)

// Tags of DER.
const (
	tagBitString       = 0x03
	tagOctetString     = 0x04
	tagPrintableString = 0x13
	tagUTCTime         = 0x17
	tagSequence        = 0x30
	tagSet             = 0x31
	tagURI             = 0x86 // of a GeneralName
	tagExtensions      = 0xa3
)

// tbsForm is what all certificates of a CA share.
type tbsForm struct {
	issuer    string // signature algorithm and the CA's name
	authority string // extension authorityKeyIdentifier
}

// newForm returns the form of a CA, nil where the library writes the probe
// differently or the CA has a key identifier of another kind.
func newForm(ca *x509.Certificate) *tbsForm {
	if len(ca.SubjectKeyId) != keyIDSize {
		return nil
	}
	f := &tbsForm{issuer: derECDSASHA256 + string(ca.RawSubject), authority: derAuthorityKey + string(ca.SubjectKeyId)}
	id, err := spiffeid.FromString("spiffe://probe.example/zone/probe/node/" + strings.Repeat("a", 26))
	if err != nil {
		return nil
	}
	probe := &leaf{
		serial: [16]byte{0x40}, notBefore: ca.NotBefore, notAfter: ca.NotAfter, name: strings.Repeat("a", 26), id: id,
		spki: ca.RawSubjectPublicKeyInfo, ski: ca.SubjectKeyId, claim: make([]byte, 1<<10),
	}
	want, err := libraryTBS(probe, ca)
	if got, ok := f.write(probe); err != nil || !ok || !bytes.Equal(got, want) {
		return nil
	}
	return f
}

// fits takes what has one encoding alone: names of a PrintableString, none of
// them empty, years of UTCTime, a serial without padding.
func (f *tbsForm) fits(l *leaf) bool {
	for _, t := range []time.Time{l.notBefore, l.notAfter} {
		if y := t.Year(); y < 1950 || y > 2049 {
			return false
		}
	}
	return len(l.ski) == keyIDSize && l.serial[0] > 0 && l.serial[0] < 0x80 && l.name != "" &&
		strings.Trim(l.name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.") == ""
}

// write returns the TBSCertificate (RFC 5280, section 4.1.2), false for what the
// form does not fit.
func (f *tbsForm) write(l *leaf) ([]byte, bool) {
	if !f.fits(l) {
		return nil, false
	}
	uri := l.id.String()
	name := len(derCommonName) + derSize(len(l.name))
	subject := len(derOrganization) + derSize(derSize(name))
	alternative := len(derSubjectName) + derSize(derSize(derSize(len(uri))))
	claim := len(derClaim) + derSize(len(l.claim))
	extensions := len(derUsages) + len(derSubjectKey) + keyIDSize + len(f.authority) + derSize(alternative) + derSize(claim)
	validity := 2 * derSize(len(derUTCTime))
	size := len(derVersion3) + derSize(len(l.serial)) + len(f.issuer) + derSize(validity) + derSize(subject) + len(l.spki) +
		derSize(derSize(extensions))

	out := appendHead(make([]byte, 0, derSize(size)), tagSequence, size)
	out = append(out, derVersion3...)
	out = append(append(out, 0x02, byte(len(l.serial))), l.serial[:]...)
	out = append(out, f.issuer...)
	out = appendHead(out, tagSequence, validity)
	out = l.notBefore.AppendFormat(appendHead(out, tagUTCTime, len(derUTCTime)), derUTCTime)
	out = l.notAfter.AppendFormat(appendHead(out, tagUTCTime, len(derUTCTime)), derUTCTime)
	out = append(appendHead(out, tagSequence, subject), derOrganization...)
	out = appendHead(appendHead(out, tagSet, derSize(name)), tagSequence, name)
	out = append(appendHead(append(out, derCommonName...), tagPrintableString, len(l.name)), l.name...)
	out = append(out, l.spki...)

	out = appendHead(appendHead(out, tagExtensions, derSize(extensions)), tagSequence, extensions)
	out = append(append(append(out, derUsages...), derSubjectKey...), l.ski...)
	out = append(out, f.authority...)
	out = append(appendHead(out, tagSequence, alternative), derSubjectName...)
	out = appendHead(appendHead(out, tagOctetString, derSize(derSize(len(uri)))), tagSequence, derSize(len(uri)))
	out = append(appendHead(out, tagURI, len(uri)), uri...)
	out = append(appendHead(out, tagSequence, claim), derClaim...)
	out = append(appendHead(out, tagOctetString, len(l.claim)), l.claim...)
	return out, len(out) == derSize(size)
}

// derSize returns the length of an element with n bytes of content.
func derSize(n int) int {
	size := 2 + n
	if n < 1<<7 {
		return size
	}
	for ; n > 0; n >>= 8 {
		size++
	}
	return size
}

// appendHead appends the tag and length of an element with n bytes of content
// (X.690, section 8.1.3).
func appendHead(out []byte, tag byte, n int) []byte {
	if n < 1<<7 {
		return append(out, tag, byte(n))
	}
	octets := derSize(n) - n - 2
	out = append(out, tag, 0x80|byte(octets))
	for shift := 8 * (octets - 1); shift >= 0; shift -= 8 {
		out = append(out, byte(n>>shift))
	}
	return out
}
