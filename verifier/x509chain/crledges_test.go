package x509chain_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	encoding_asn1 "encoding/asn1"
	"encoding/pem"
	"fmt"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

// TestCRLFileAtTheLimit: a file of MaxCRL bytes is read, and one byte more makes
// it refused, good as the list in it is.
func TestCRLFileAtTheLimit(t *testing.T) {
	file := inPEM(newCA(t, "EK CA", 2, nil).sign(t, fresh))
	file = append(file, bytes.Repeat([]byte{'\n'}, x509chain.MaxCRL-len(file))...)
	if lists, err := x509chain.NewCRLs(file); err != nil || lists.Len() != 1 {
		t.Errorf("at the limit: %d lists, %v", lists.Len(), err)
	}
	if lists, err := x509chain.NewCRLs(append(file, '\n')); err == nil || lists.Len() != 0 {
		t.Error("above the limit: taken")
	}
}

// TestCRLForm: what is no list, or a list under another name, is refused and not
// passed over: an operator would believe that it revokes something.
func TestCRLForm(t *testing.T) {
	ca := newCA(t, "EK CA", 2, nil)
	good := ca.sign(t, fresh)
	scope := encoding_asn1.ObjectIdentifier{2, 5, 29, 28}
	for name, file := range map[string][]byte{
		"a list named as a certificate":   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: good}),
		"a sequence that is no list":      sequence(integer(1)),
		"a certificate":                   ca.cert.Raw,
		"no sequence":                     integer(1),
		"a scope that covers nothing":     ca.sign(t, fresh.with(pkix.Extension{Id: scope, Value: nil})),
		"a scope and bytes behind it":     ca.sign(t, fresh.with(pkix.Extension{Id: scope, Value: append(sequence(), 0)})),
		"a scope and an element after it": ca.sign(t, fresh.with(pkix.Extension{Id: scope, Value: append(sequence(), integer(1)...)})),
	} {
		if lists, err := x509chain.NewCRLs(file); err == nil || lists.Len() != 0 {
			t.Errorf("%s: taken", name)
		}
	}
	if lists, err := x509chain.NewCRLs(ca.sign(t, fresh.with(pkix.Extension{Id: scope, Value: sequence()}))); err != nil || lists.Len() != 1 {
		t.Errorf("a scope without members: %v", err)
	}
}

// TestCriticalNumber: a list may say that its number has to be understood.
// crypto/x509 writes it uncritical, so that it stands in this list twice.
func TestCriticalNumber(t *testing.T) {
	ext := pkix.Extension{Id: encoding_asn1.ObjectIdentifier{2, 5, 29, 20}, Critical: true, Value: integer(1)}
	if lists, err := x509chain.NewCRLs(newCA(t, "EK CA", 2, nil).sign(t, fresh.with(ext))); err != nil || lists.Len() != 1 {
		t.Error(err)
	}
}

// TestOnlyExpiredIsExpired: callers may be lenient with expired certificates, and
// with no other ones.
func TestOnlyExpiredIsExpired(t *testing.T) {
	for _, r := range []x509.InvalidReason{x509.NotAuthorizedToSign, x509.TooManyIntermediates, x509.IncompatibleUsage, x509.NameConstraintsWithoutSANs} {
		if x509chain.IsExpired(fmt.Errorf("chain: %w", x509.CertificateInvalidError{Reason: r})) {
			t.Errorf("reason %d is taken for expired", r)
		}
	}
	if x509chain.IsExpired(nil) || !x509chain.IsExpired(fmt.Errorf("chain: %w", x509.CertificateInvalidError{Reason: x509.Expired})) {
		t.Error("nothing is expired, or expired is not")
	}
}
