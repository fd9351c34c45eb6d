package tpm2collect

import (
	"context"
	"crypto/x509"
	"encoding/asn1"
)

// Where the issuers of EK certificates lie (TCG EK Credential Profile 2.5,
// 2.2.1.5.2): one certificate after another in DER, over as many indices as it
// takes. Firmware TPMs, whose issuers differ from batch to batch, have them.
const (
	firstChainIndex = 0x01c00100
	lastChainIndex  = 0x01c001ff
	maxChain        = 4        // certificates; the broker takes no more
	maxChainBytes   = 16 << 10 // of all indices
)

// readChain returns the issuer certificates in the order in which they lie
// there, nil where there are none. What is not a certificate is left out: the
// broker refuses a chain with such a member, and it may know the issuer itself.
func (t *TPM) readChain(ctx context.Context) ([][]byte, error) {
	var all []byte
	for index := uint32(firstChainIndex); index <= lastChainIndex && len(all) < maxChainBytes; index++ {
		part, err := t.readNV(ctx, index, maxChainBytes)
		if err != nil {
			return nil, err
		}
		if len(part) == 0 {
			break
		}
		all = append(all, part...)
	}
	return certificates(all), nil
}

// certificates splits what lies one behind the other, up to fill bytes.
func certificates(all []byte) [][]byte {
	var out [][]byte
	for len(out) < maxChain {
		var element asn1.RawValue
		rest, err := asn1.Unmarshal(all, &element)
		if err != nil || element.Tag != asn1.TagSequence {
			break
		}
		all = rest
		if _, err := x509.ParseCertificate(element.FullBytes); err == nil && len(element.FullBytes) <= maxCertificate {
			out = append(out, element.FullBytes)
		}
	}
	return out
}
