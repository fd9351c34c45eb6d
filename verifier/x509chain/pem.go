package x509chain

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
)

// ParsePEM reads a chain of up to most certificates in PEM, in its order, each
// within the limits of this package. Between and around them there is only white
// space. The blocks are cut out here, as encoding/pem passes over one that is
// broken: a chain would begin with another certificate than its sender's.
func ParsePEM(text []byte, most int) ([]*x509.Certificate, bool) {
	const begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
	var out []*x509.Certificate
	rest := bytes.TrimSpace(text)
	for len(rest) > 0 {
		head, more, whole := bytes.Cut(rest, []byte(end))
		if !whole || !bytes.HasPrefix(head, []byte(begin)) || bytes.Count(head, []byte(begin)) > 1 || len(out) == most {
			return nil, false
		}
		block, left := pem.Decode(rest[:len(head)+len(end)])
		if block == nil || len(left) > 0 || len(block.Bytes) > MaxCertificate || Oversized(block.Bytes) {
			return nil, false
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, false
		}
		out, rest = append(out, c), bytes.TrimSpace(more)
	}
	return out, len(out) > 0
}
