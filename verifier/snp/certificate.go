package snp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	encoding_asn1 "encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

// Limits of the certificate that comes along with a report.
const (
	// MaxCertificate bounds what comes along in bytes: clouds hand out the whole
	// chain as PEM, of which only the first certificate is read.
	MaxCertificate = 16 << 10
	maxDER         = x509chain.MaxCertificate
)

// Extensions of an endorsement certificate (57230, tables 8 to 11).
var (
	oidStruct  = amd(1)
	oidProduct = amd(2)
	oidHWID    = amd(4)
	oidCSP     = amd(5)
)

// Security versions, 1.3.6.1.4.1.3704.1.3.n: the last arc of each part. Four to
// seven are reserved, and zero where they stand.
const (
	splBootloader = 1
	splTEE        = 2
	splSNP        = 3
	splMicrocode  = 8
	splFMC        = 9
)

func amd(arc ...int) encoding_asn1.ObjectIdentifier {
	return append(encoding_asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}, arc...)
}

// endorsement is a VCEK or VLEK certificate, read and not yet trusted.
type endorsement struct {
	cert    *x509.Certificate
	key     *ecdsa.PublicKey
	kind    Kind
	product Product
	tcb     TCB
	hwid    []byte // VCEK: the chip, 64 bytes, on Turin 8
	csp     string // VLEK: the provider that it was given to
}

var errEndorsement = errors.New("not a VCEK or VLEK certificate of AMD's form")

// firstDER returns the only DER certificate, or the first block of a PEM bundle.
func firstDER(b []byte) ([]byte, error) {
	if bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte("-----BEGIN")) {
		block, _ := pem.Decode(b)
		if block == nil || block.Type != "CERTIFICATE" {
			return nil, errEndorsement
		}
		b = block.Bytes
	}
	if len(b) > maxDER {
		return nil, errEndorsement
	}
	return b, nil
}

func parseEndorsement(raw []byte) (*endorsement, error) {
	der, err := firstDER(raw)
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errEndorsement, err)
	}
	e := &endorsement{cert: c}
	key, ok := c.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P384() || c.IsCA || len(c.UnhandledCriticalExtensions) > 0 {
		return nil, errEndorsement
	}
	e.key = key
	switch c.Subject.CommonName {
	case "SEV-VCEK":
		e.kind = VCEK
	case "SEV-VLEK":
		e.kind = VLEK
	default:
		return nil, errEndorsement
	}
	if !e.readExtensions() {
		return nil, errEndorsement
	}
	return e, nil
}

// readExtensions wants every part of the TCB named, and the chip in a VCEK: an
// absent one would compare as zero.
func (e *endorsement) readExtensions() bool {
	versions := map[int]uint8{}
	structure := uint8(0)
	for _, ext := range e.cert.Extensions {
		ok := true
		switch {
		case ext.Id.Equal(oidStruct):
			structure, ok = small(ext.Value)
		case ext.Id.Equal(oidProduct):
			var name string
			if name, ok = text(ext.Value); ok {
				e.product = productOf(name)
			}
		case ext.Id.Equal(oidCSP):
			e.csp, ok = text(ext.Value)
		case ext.Id.Equal(oidHWID):
			e.hwid = octets(ext.Value)
		case len(ext.Id) == len(oidStruct)+1 && ext.Id[:len(ext.Id)-1].Equal(amd(3)):
			versions[ext.Id[len(ext.Id)-1]], ok = small(ext.Value)
		}
		if !ok {
			return false
		}
	}
	if e.product == "" || structure > 1 || !e.readTCB(versions) {
		return false
	}
	size := 64
	if e.product == Turin {
		size = 8
	}
	return e.kind == VLEK && e.hwid == nil || e.kind == VCEK && len(e.hwid) == size
}

func (e *endorsement) readTCB(versions map[int]uint8) bool {
	need := []int{splBootloader, splTEE, splSNP, splMicrocode}
	if e.product == Turin {
		need = append(need, splFMC)
	}
	for _, n := range need {
		if _, ok := versions[n]; !ok {
			return false
		}
	}
	for n, v := range versions {
		if v != 0 && !slices.Contains(need, n) {
			return false
		}
	}
	e.tcb = TCB{
		Bootloader: versions[splBootloader], TEE: versions[splTEE], SNP: versions[splSNP],
		Microcode: versions[splMicrocode], FMC: versions[splFMC],
	}
	return true
}

// small reads an INTEGER of one byte's range.
func small(der []byte) (uint8, bool) {
	in := cryptobyte.String(der)
	var n uint64
	if !in.ReadASN1Integer(&n) || !in.Empty() || n > 0xff {
		return 0, false
	}
	return uint8(n), true
}

func text(der []byte) (string, bool) {
	in := cryptobyte.String(der)
	var s cryptobyte.String
	if !in.ReadASN1(&s, asn1.IA5String) || !in.Empty() || len(s) > 128 {
		return "", false
	}
	for _, c := range s {
		if c < 0x20 || c > 0x7e {
			return "", false
		}
	}
	return string(s), true
}

// octets reads the chip's name, which AMD writes bare on Milan and which 57230
// describes as an OCTET STRING.
func octets(der []byte) []byte {
	in := cryptobyte.String(der)
	var s cryptobyte.String
	if (len(der) == 8+2 || len(der) == 64+2) && in.ReadASN1(&s, asn1.OCTET_STRING) && in.Empty() {
		return s
	}
	return der
}
