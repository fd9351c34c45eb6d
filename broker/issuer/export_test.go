package issuer

import "crypto/ecdsa"

// Break changes the recorded bytes, as a fault in memory would.
func (p *Prepared) Break() { p.tbs[len(p.tbs)-1] ^= 1 }

// Retitle changes the certificate behind the recorded bytes.
func (p *Prepared) Retitle(name string) { p.template.Subject.CommonName = name }

// SwapKey gives the CA another private key and returns the old one.
func (c *CA) SwapKey(key *ecdsa.PrivateKey) *ecdsa.PrivateKey {
	old := c.key
	c.key = key
	return old
}
