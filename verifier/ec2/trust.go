package ec2

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"regexp"
	"slices"

	"github.com/zonebroker/zonebroker/verifier/pkcs7"
)

// regionName is how AWS names regions: us-east-1, us-gov-west-1, eusc-de-east-1.
var regionName = regexp.MustCompile(`^[a-z]{2,8}(-[a-z]{2,16}){1,3}-[0-9]{1,2}$`)

// Trust holds the certificates of regions. The zero value trusts none.
type Trust struct {
	certificates []*x509.Certificate
	regions      map[string]string // of the certificate in DER
}

// NewTrust reads the certificates by which regions sign, PEM by name of the
// region; a region may have several, while AWS changes them. A certificate under
// two regions is an error, as a document could then not be pinned to one, and so
// is a key that is not RSA of 2048 bits or more.
func NewTrust(regions map[string][]byte) (Trust, error) {
	t := Trust{regions: map[string]string{}}
	for _, region := range slices.Sorted(maps.Keys(regions)) {
		if !regionName.MatchString(region) {
			return Trust{}, fmt.Errorf("%.40q is not the name of a region", region)
		}
		rest, n := bytes.TrimSpace(regions[region]), 0
		for ; len(rest) > 0; n++ {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
				return Trust{}, fmt.Errorf("region %s: certificate %d is not a PEM certificate", region, n+1)
			}
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return Trust{}, fmt.Errorf("region %s: certificate %d: %w", region, n+1, err)
			}
			if key, ok := c.PublicKey.(*rsa.PublicKey); !ok || key.N.BitLen() < pkcs7.MinKeyBits {
				return Trust{}, fmt.Errorf("region %s: certificate %d: the key is not RSA of 2048 bits or more", region, n+1)
			}
			if other, twice := t.regions[string(c.Raw)]; twice {
				return Trust{}, fmt.Errorf("one certificate is that of %s and of %s", other, region)
			}
			t.regions[string(c.Raw)] = region
			t.certificates = append(t.certificates, c)
		}
		if n == 0 {
			return Trust{}, fmt.Errorf("region %s: no certificate", region)
		}
	}
	return t, nil
}

// Len returns the number of certificates.
func (t Trust) Len() int { return len(t.certificates) }
