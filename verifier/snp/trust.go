package snp

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

// Objects are the bytes that a Trust is made of.
type Objects struct {
	// Roots are certificates of AMD, each a PEM bundle or one DER: ARKs, which are
	// trusted, and the ASKs and ASVKs that they signed. Products and kinds stand in
	// the names.
	Roots [][]byte
	// CRLs are revocation lists of ARKs; a product without one revokes nothing.
	CRLs [][]byte
	// Endorsements are VCEK and VLEK certificates for reports that come without
	// one, DER or PEM, found by chip and TCB. They are judged like those that come
	// along.
	Endorsements [][]byte
}

// Trust is what reports are judged by. The zero value trusts nobody.
type Trust struct {
	issuers []issuer
	crls    x509chain.CRLs
	cached  map[string]*endorsement
}

// issuer is an ASK or ASVK under its ARK; the signature between them was verified
// when it was configured, as it depends on no time.
type issuer struct {
	product   Product
	kind      Kind
	cert, ark *x509.Certificate
}

// ErrNoIssuer says that certificates were given, and no ASK or ASVK with the ARK
// that signed it: every report would be refused in silence.
var ErrNoIssuer = errors.New("AMD certificates: no ASK or ASVK with its ARK among them")

// NewTrust reads what an operator configured. Errors say which object is at fault.
func NewTrust(o Objects) (Trust, error) {
	var t Trust
	var arks, asks []*x509.Certificate
	for i, b := range o.Roots {
		certs, err := x509chain.ReadBundle(b)
		if err != nil {
			return Trust{}, fmt.Errorf("AMD certificates, file %d: %w", i+1, err)
		}
		for _, c := range certs {
			if bytes.Equal(c.RawIssuer, c.RawSubject) {
				arks = append(arks, c)
			} else {
				asks = append(asks, c)
			}
		}
	}
	for _, c := range asks {
		if in, ok := issuerOf(c, arks); ok {
			t.issuers = append(t.issuers, in)
		}
	}
	if len(o.Roots) > 0 && len(t.issuers) == 0 {
		return Trust{}, ErrNoIssuer
	}
	var err error
	if t.crls, err = x509chain.NewCRLs(o.CRLs...); err != nil {
		return Trust{}, err
	}
	t.cached = make(map[string]*endorsement, len(o.Endorsements))
	for i, b := range o.Endorsements {
		e, err := parseEndorsement(b)
		if err != nil {
			return Trust{}, fmt.Errorf("endorsement %d: %w", i+1, err)
		}
		t.cached[cacheKey(e.kind, e.product, e.hwid, e.tcb)] = e
	}
	return t, nil
}

// issuerOf reads product and kind from the names "SEV-Milan" and
// "SEV-VLEK-Milan", and finds the ARK of the same product that signed it.
func issuerOf(c *x509.Certificate, arks []*x509.Certificate) (issuer, bool) {
	name, ok := strings.CutPrefix(c.Subject.CommonName, "SEV-")
	in := issuer{cert: c, kind: VCEK}
	if rest, vlek := strings.CutPrefix(name, "VLEK-"); vlek {
		name, in.kind = rest, VLEK
	}
	in.product = productOf(name)
	if !ok || in.product == "" {
		return issuer{}, false
	}
	for _, ark := range arks {
		root, ok := strings.CutPrefix(ark.Subject.CommonName, "ARK-")
		if ok && productOf(root) == in.product && bytes.Equal(c.RawIssuer, ark.RawSubject) && c.CheckSignatureFrom(ark) == nil {
			in.ark = ark
			return in, true
		}
	}
	return issuer{}, false
}

// chain wants the endorsement signed by the ASK or ASVK of its own product and
// kind. Errors: snp.untrusted, then snp.validity.
func (t Trust) chain(e *endorsement, now time.Time) error {
	var found *issuer
	for i := range t.issuers {
		in := &t.issuers[i]
		if in.product == e.product && in.kind == e.kind && bytes.Equal(in.cert.RawSubject, e.cert.RawIssuer) &&
			e.cert.CheckSignatureFrom(in.cert) == nil {
			found = in
			break
		}
	}
	if found == nil {
		return reason.Newf(reason.SNPUntrusted, "the %s does not chain to a configured AMD root of %s", e.kind, e.product)
	}
	chain := []*x509.Certificate{e.cert, found.cert, found.ark}
	for _, c := range chain {
		if now.Before(c.NotBefore) || now.After(c.NotAfter) {
			return reason.Newf(reason.SNPValidity, "%s is valid from %s to %s, which %s is not within", c.Subject.CommonName,
				c.NotBefore.Format(time.DateOnly), c.NotAfter.Format(time.DateOnly), now.UTC().Format(time.DateOnly))
		}
	}
	if err := t.crls.Check(chain, now); err != nil {
		return reason.Wrap(reason.SNPUntrusted, err.Error(), err)
	}
	return nil
}

// find looks for a configured endorsement of the report's chip and TCB. A report
// of version 2 does not name its product: the chip does, as no two share an
// identifier.
func (t Trust) find(r report) *endorsement {
	products := []Product{r.product()}
	if products[0] == "" {
		products = []Product{Milan, Genoa}
	}
	for _, p := range products {
		tcb, ok := decodeTCB(p, r.u64(offReported))
		if !ok {
			continue
		}
		var chip []byte
		if r.signer == VCEK {
			chip = chipOf(p, r.chipID())
		}
		if e := t.cached[cacheKey(r.signer, p, chip, tcb)]; e != nil {
			return e
		}
	}
	return nil
}

// chipOf is the part of CHIP_ID that names the chip: eight bytes on Turin, where
// the others are zero (57230, section 3.1).
func chipOf(p Product, id []byte) []byte {
	if p == Turin {
		return id[:8]
	}
	return id
}

func cacheKey(k Kind, p Product, chip []byte, t TCB) string {
	parts := t.parts()
	key := binary.AppendUvarint(nil, uint64(len(chip)))
	key = append(append(key, chip...), parts[:]...)
	return string(k) + "/" + string(p) + "/" + string(key)
}
