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

// The DICE extension of a leaf says which firmware the device certified the key
// for: of Hopper and its switches a composite device id (TCG, Implicit Identity
// Based Device Attestation 7.2), of Blackwell a DiceTcbInfo (TCG, DICE Attestation
// Architecture 1.1, 6.1.1) under an arc of NVIDIA's own choice.
var (
	oidCompositeDevice = encoding_asn1.ObjectIdentifier{2, 23, 133, 5, 4, 1}
	oidTCBInfo         = encoding_asn1.ObjectIdentifier{2, 23, 133, 5, 4, 1, 1}
)

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
		in := cryptobyte.String(ext.Value)
		var body, fwid cryptobyte.String
		switch {
		case ext.Id.Equal(oidCompositeDevice):
			if in.ReadASN1(&body, asn1.SEQUENCE) && body.SkipASN1(asn1.INTEGER) && body.SkipASN1(asn1.SEQUENCE) && body.ReadASN1(&fwid, asn1.SEQUENCE) {
				return digestOf(fwid)
			}
		case ext.Id.Equal(oidTCBInfo):
			if in.ReadASN1(&body, asn1.SEQUENCE) {
				return firstFWID(body)
			}
		}
	}
	return nil
}

// firstFWID reads the members of a DiceTcbInfo up to fwids [6] and returns its
// first digest: of the firmware that holds the key. Behind it stand those of later
// stages, zero where there is none.
func firstFWID(body cryptobyte.String) []byte {
	for !body.Empty() {
		var member, fwid cryptobyte.String
		var tag asn1.Tag
		if !body.ReadAnyASN1(&member, &tag) {
			return nil
		}
		if tag == asn1.Tag(6).ContextSpecific().Constructed() && member.ReadASN1(&fwid, asn1.SEQUENCE) {
			return digestOf(fwid)
		}
	}
	return nil
}

// digestOf reads algorithm and digest of a FWID.
func digestOf(fwid cryptobyte.String) []byte {
	var algorithm encoding_asn1.ObjectIdentifier
	var digest cryptobyte.String
	if !fwid.ReadASN1ObjectIdentifier(&algorithm) || !fwid.ReadASN1(&digest, asn1.OCTET_STRING) {
		return nil
	}
	return digest
}
