package tdx

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	encoding_asn1 "encoding/asn1"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

// Names of Intel's profile, section 1.3. All certificates below the root are told
// apart by them: without that, a key of another purpose would serve.
const (
	namePCK        = "Intel SGX PCK Certificate"
	nameTCBSigning = "Intel SGX TCB Signing"
	maxCerts       = 4
)

// Arcs of the SGX extension of a PCK certificate (profile, 1.3.5).
var (
	oidSGX     = encoding_asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}
	oidTCB     = encoding_asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1, 2}
	oidPCEID   = encoding_asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1, 3}
	oidFMSPC   = encoding_asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1, 4}
	arcPCESVN  = 17
	arcCPUSVN  = 18
	components = 16
)

// platform is what a PCK certificate says about the machine.
type platform struct {
	fmspc  [6]byte
	pceID  [2]byte
	svn    [16]uint8 // SGX TCB components
	pceSVN uint16
}

// parsePEM reads a chain, leaf first; Intel's may end in a NUL.
func parsePEM(b []byte) ([]*x509.Certificate, bool) {
	return x509chain.ParsePEM(bytes.TrimRight(b, "\x00"), maxCerts)
}

// checkPCK judges the chain that stands in a quote, and returns it to the pinned
// root.
func checkPCK(claimed []byte, roots x509chain.Roots, now time.Time) ([]*x509.Certificate, error) {
	sent, ok := parsePEM(claimed)
	if !ok {
		return nil, reason.New(reason.TDXMalformed, "the chain of the PCK certificate is not up to four certificates in PEM")
	}
	leaf := sent[0]
	key, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	switch {
	case len(leaf.UnhandledCriticalExtensions) > 0:
		return nil, reason.Newf(reason.TDXUntrusted, "critical extension %s of the PCK certificate is unknown", leaf.UnhandledCriticalExtensions[0])
	case leaf.IsCA || leaf.Subject.CommonName != namePCK || leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 || !ok || key.Curve != elliptic.P256():
		return nil, reason.Newf(reason.TDXUntrusted, "%q is no PCK certificate with a key on P-256", leaf.Subject.CommonName)
	}
	chains, err := roots.Chains(leaf, sent[1:], now)
	switch {
	case x509chain.IsExpired(err):
		return nil, reason.Wrap(reason.TDXValidity, "a certificate of the PCK chain is not valid at this time", err)
	case err != nil:
		return nil, reason.Wrap(reason.TDXUntrusted, "the PCK certificate does not chain to the configured Intel root", err)
	}
	return chains[0], nil
}

// readPlatform reads the SGX extension.
func readPlatform(pck *x509.Certificate) (platform, error) {
	var p platform
	for _, ext := range pck.Extensions {
		if ext.Id.Equal(oidSGX) {
			if !p.read(ext.Value) {
				return p, reason.New(reason.TDXUntrusted, "the SGX extension of the PCK certificate does not parse")
			}
			return p, nil
		}
	}
	return p, reason.New(reason.TDXUntrusted, "the PCK certificate has no SGX extension")
}

func (p *platform) read(der []byte) bool {
	in := cryptobyte.String(der)
	var list cryptobyte.String
	if !in.ReadASN1(&list, asn1.SEQUENCE) || !in.Empty() {
		return false
	}
	seen := map[string]bool{}
	for !list.Empty() {
		id, value, ok := member(&list)
		if !ok || seen[id.String()] {
			return false
		}
		seen[id.String()] = true
		switch {
		case id.Equal(oidTCB):
			ok = p.readTCB(value)
		case id.Equal(oidPCEID):
			ok = octets(value, p.pceID[:])
		case id.Equal(oidFMSPC):
			ok = octets(value, p.fmspc[:])
		}
		if !ok {
			return false
		}
	}
	return seen[oidTCB.String()] && seen[oidPCEID.String()] && seen[oidFMSPC.String()]
}

// member reads SEQUENCE { OBJECT IDENTIFIER, value } and returns the value as one
// whole element.
func member(list *cryptobyte.String) (id encoding_asn1.ObjectIdentifier, value cryptobyte.String, ok bool) {
	var pair cryptobyte.String
	var tag asn1.Tag
	ok = list.ReadASN1(&pair, asn1.SEQUENCE) && pair.ReadASN1ObjectIdentifier(&id) &&
		pair.ReadAnyASN1Element(&value, &tag) && pair.Empty()
	return id, value, ok
}

func octets(element cryptobyte.String, out []byte) bool {
	var b cryptobyte.String
	if !element.ReadASN1(&b, asn1.OCTET_STRING) || len(b) != len(out) {
		return false
	}
	copy(out, b)
	return true
}

// readTCB reads the 16 components, the PCE's SVN and the CPU SVN, each once.
func (p *platform) readTCB(element cryptobyte.String) bool {
	var list cryptobyte.String
	if !element.ReadASN1(&list, asn1.SEQUENCE) {
		return false
	}
	var seen uint32
	for !list.Empty() {
		id, value, ok := member(&list)
		if !ok || len(id) != len(oidTCB)+1 || !id[:len(oidTCB)].Equal(oidTCB) {
			return false
		}
		arc := id[len(oidTCB)]
		if arc < 1 || arc > arcCPUSVN || seen&(1<<arc) != 0 {
			return false
		}
		seen |= 1 << arc
		switch {
		case arc <= components:
			ok = value.ReadASN1Integer(&p.svn[arc-1])
		case arc == arcPCESVN:
			ok = value.ReadASN1Integer(&p.pceSVN)
		default:
			var cpuSVN [16]byte
			ok = octets(value, cpuSVN[:])
		}
		if !ok {
			return false
		}
	}
	return seen == 1<<(arcCPUSVN+1)-2 // arcs 1 to 18
}
