package ekcert

import (
	"crypto/x509"
	encoding_asn1 "encoding/asn1"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TPM attributes in the directory name of the alternative name (TCG EK
// Credential Profile 2.5, 3.2.9).
var (
	oidManufacturer = encoding_asn1.ObjectIdentifier{2, 23, 133, 2, 1}
	oidModel        = encoding_asn1.ObjectIdentifier{2, 23, 133, 2, 2}
	oidVersion      = encoding_asn1.ObjectIdentifier{2, 23, 133, 2, 3}
)

// tpmNames are the TPM attributes beside the manufacturer, as they stand there.
type tpmNames struct{ model, version string }

// readTPMNames wants exactly one manufacturer and at most one model and version
// over all directory names: of two, another reader might believe the other.
func readTPMNames(c *x509.Certificate) (vendorID, tpmNames, error) {
	var found []attribute
	for _, ext := range c.Extensions {
		if !ext.Id.Equal(oidSubjectAltName) {
			continue
		}
		attrs, ok := directoryAttributes(ext.Value)
		if !ok {
			return vendorID{}, tpmNames{}, errSAN("the alternative name does not parse")
		}
		found = append(found, attrs...)
	}
	manufacturer, n := pick(found, oidManufacturer)
	switch {
	case n == 0:
		return vendorID{}, tpmNames{}, errSAN("the alternative name has no TPM manufacturer")
	case n > 1:
		return vendorID{}, tpmNames{}, errSAN("the alternative name has more than one TPM manufacturer")
	}
	model, models := pick(found, oidModel)
	version, versions := pick(found, oidVersion)
	if models > 1 || versions > 1 {
		return vendorID{}, tpmNames{}, errSAN("the alternative name has more than one TPM model or version")
	}
	id, ok := parseVendor(manufacturer)
	if !ok {
		return vendorID{}, tpmNames{}, errSAN("the TPM manufacturer is not \"id:\" and eight hex digits")
	}
	return id, tpmNames{model, version}, nil
}

func errSAN(detail string) error { return reason.New(reason.EKCertSAN, detail) }

type attribute struct {
	oid   encoding_asn1.ObjectIdentifier
	value string
}

func pick(attrs []attribute, oid encoding_asn1.ObjectIdentifier) (value string, n int) {
	for _, a := range attrs {
		if a.oid.Equal(oid) {
			value = a.value
			n++
		}
	}
	return value, n
}

// directoryAttributes reads the attributes of every directoryName [4] in a
// GeneralNames, also of several in one RDN; other kinds of names are skipped.
func directoryAttributes(der []byte) ([]attribute, bool) {
	in := cryptobyte.String(der)
	var names cryptobyte.String
	if !in.ReadASN1(&names, asn1.SEQUENCE) || !in.Empty() {
		return nil, false
	}
	var out []attribute
	for !names.Empty() {
		var name, rdns cryptobyte.String
		var tag asn1.Tag
		if !names.ReadAnyASN1(&name, &tag) {
			return nil, false
		}
		if tag != asn1.Tag(4).ContextSpecific().Constructed() {
			continue
		}
		if !name.ReadASN1(&rdns, asn1.SEQUENCE) || !name.Empty() {
			return nil, false
		}
		for !rdns.Empty() {
			var rdn cryptobyte.String
			if !rdns.ReadASN1(&rdn, asn1.SET) || !readRDN(rdn, &out) {
				return nil, false
			}
		}
	}
	return out, true
}

func readRDN(rdn cryptobyte.String, out *[]attribute) bool {
	for !rdn.Empty() {
		var pair, value cryptobyte.String
		var a attribute
		var tag asn1.Tag
		if !rdn.ReadASN1(&pair, asn1.SEQUENCE) || !pair.ReadASN1ObjectIdentifier(&a.oid) ||
			!pair.ReadAnyASN1(&value, &tag) || !pair.Empty() {
			return false
		}
		if isTPMAttribute(a.oid) {
			switch tag {
			case asn1.UTF8String, asn1.PrintableString, asn1.IA5String:
			default:
				return false
			}
			if !utf8.Valid(value) {
				return false
			}
			a.value = string(value)
		}
		*out = append(*out, a)
	}
	return true
}

func isTPMAttribute(oid encoding_asn1.ObjectIdentifier) bool {
	return oid.Equal(oidManufacturer) || oid.Equal(oidModel) || oid.Equal(oidVersion)
}
