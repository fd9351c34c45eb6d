package nvidia

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	encoding_asn1 "encoding/asn1"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

// maxCerts of a device: root, identity, provisioner, device, firmware.
const maxCerts = 6

// oidCompositeDevice is the DICE extension of a leaf: which firmware the device
// certified the key for (TCG, Implicit Identity Based Device Attestation 7.2).
var oidCompositeDevice = encoding_asn1.ObjectIdentifier{2, 23, 133, 5, 4, 1}

// checkChain judges the chain of a device: every error is nvidia.untrusted, which
// covers certificates outside their validity too.
func (r *report) checkChain(roots x509chain.Roots, now time.Time) error {
	leaf := r.chain[0]
	key, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	switch {
	case len(leaf.UnhandledCriticalExtensions) > 0:
		return reason.Newf(reason.NvidiaUntrusted, "critical extension %s of the device certificate is unknown", leaf.UnhandledCriticalExtensions[0])
	case leaf.IsCA || leaf.KeyUsage != x509.KeyUsageDigitalSignature || !ok || key.Curve != elliptic.P384():
		return reason.New(reason.NvidiaUntrusted, "the device certificate is not one of a key on P-384 that signs and does nothing else")
	}
	chains, err := roots.Chains(leaf, r.chain[1:], now)
	if err != nil {
		return reason.Wrap(reason.NvidiaUntrusted, "the device certificate does not chain to the configured NVIDIA root", err)
	}
	if len(chains[0]) < 3 {
		return reason.New(reason.NvidiaUntrusted, "the device certificate is issued by a CA and not by a device")
	}
	if r.fwid != nil && !bytes.Equal(r.fwid, certified(leaf)) {
		return reason.New(reason.NvidiaUntrusted, "the report is of other firmware than the device certified the key for")
	}
	return nil
}

// hardware is the model as the device's own CA is called: the same words as in
// NVIDIA's tokens.
func (r *report) hardware() string { return r.chain[0].Issuer.CommonName }

// chip is the first word of the model.
func (r *report) chip() string {
	name, _, _ := strings.Cut(r.hardware(), " ")
	return name
}

// certified returns the digest of the firmware in a leaf, nil for none.
func certified(leaf *x509.Certificate) []byte {
	for _, ext := range leaf.Extensions {
		if !ext.Id.Equal(oidCompositeDevice) {
			continue
		}
		in := cryptobyte.String(ext.Value)
		var list, fwid, digest cryptobyte.String
		var algorithm encoding_asn1.ObjectIdentifier
		if in.ReadASN1(&list, asn1.SEQUENCE) && list.SkipASN1(asn1.INTEGER) && list.SkipASN1(asn1.SEQUENCE) &&
			list.ReadASN1(&fwid, asn1.SEQUENCE) && fwid.ReadASN1ObjectIdentifier(&algorithm) && fwid.ReadASN1(&digest, asn1.OCTET_STRING) {
			return digest
		}
	}
	return nil
}
