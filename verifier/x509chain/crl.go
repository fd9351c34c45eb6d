package x509chain

import (
	"bytes"
	"crypto/x509"
	encoding_asn1 "encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// MaxCRL bounds one file of revocation lists in bytes; the largest list of a TPM
// manufacturer that is known has some ten thousand entries of 30 bytes.
const MaxCRL = 8 << 20

// Extensions of a list (RFC 5280, 5.2) that the check here takes into account,
// by which a list may be critical. A delta list would be read as a whole one,
// and entries of an indirect list concern other issuers: both are refused.
var (
	oidCRLNumber         = encoding_asn1.ObjectIdentifier{2, 5, 29, 20}
	oidCRLAuthorityKeyID = encoding_asn1.ObjectIdentifier{2, 5, 29, 35}
	oidCRLDistribution   = encoding_asn1.ObjectIdentifier{2, 5, 29, 28}
)

// Why a chain is refused by CRLs.
var (
	ErrRevoked  = errors.New("revoked by its issuer")
	ErrStaleCRL = errors.New("the configured revocation list is past its nextUpdate")
	ErrCRLKey   = errors.New("the configured revocation list is not signed by the issuer in the chain")
)

// CRLs are the configured revocation lists. The zero value has none and revokes
// nothing.
type CRLs struct {
	byIssuer map[string][]list
	n        int
}

type list struct {
	*x509.RevocationList
	serials map[string]bool
}

// NewCRLs reads revocation lists, each argument PEM blocks or one list in DER. A
// list that could not be applied as it stands is an error: one without
// nextUpdate, a delta, an indirect one, one with an unknown critical extension.
// Signatures are verified by Check, under the issuer of the chain.
func NewCRLs(files ...[]byte) (CRLs, error) {
	out := CRLs{byIssuer: make(map[string][]list)}
	for i, f := range files {
		if len(f) > MaxCRL {
			return CRLs{}, fmt.Errorf("revocation lists, file %d: larger than %d bytes", i+1, MaxCRL)
		}
		blocks, err := crlBlocks(f)
		if err != nil {
			return CRLs{}, fmt.Errorf("revocation lists, file %d: %w", i+1, err)
		}
		for _, der := range blocks {
			l, err := parseCRL(der)
			if err != nil {
				return CRLs{}, fmt.Errorf("revocation lists, file %d: %w", i+1, err)
			}
			out.byIssuer[string(l.RawIssuer)] = append(out.byIssuer[string(l.RawIssuer)], l)
			out.n++
		}
	}
	return out, nil
}

// Len returns the number of lists.
func (c CRLs) Len() int { return c.n }

func crlBlocks(f []byte) ([][]byte, error) {
	block, rest := pem.Decode(f)
	if block == nil {
		return [][]byte{f}, nil
	}
	var out [][]byte
	for ; block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "X509 CRL" {
			return nil, fmt.Errorf("a PEM block of type %q where a revocation list was expected", block.Type)
		}
		out = append(out, block.Bytes)
	}
	return out, nil
}

func parseCRL(der []byte) (list, error) {
	// crypto/x509 passes over what stands behind the list.
	whole := cryptobyte.String(der)
	if !whole.SkipASN1(asn1.SEQUENCE) || !whole.Empty() {
		return list{}, errors.New("neither PEM nor one list in DER")
	}
	l, err := x509.ParseRevocationList(der)
	if err != nil {
		return list{}, fmt.Errorf("neither PEM nor one list in DER: %w", err)
	}
	if l.NextUpdate.IsZero() {
		return list{}, errors.New("the list has no nextUpdate: nobody could tell whether it is of now")
	}
	for _, ext := range l.Extensions {
		switch {
		case ext.Id.Equal(oidCRLDistribution):
			if indirect(ext.Value) {
				return list{}, errors.New("an indirect list, whose entries may be of other issuers")
			}
		case ext.Critical && !ext.Id.Equal(oidCRLNumber) && !ext.Id.Equal(oidCRLAuthorityKeyID):
			return list{}, fmt.Errorf("the list has the critical extension %s (2.5.29.27 is a delta list)", ext.Id)
		}
	}
	out := list{RevocationList: l, serials: make(map[string]bool, len(l.RevokedCertificateEntries))}
	for _, e := range l.RevokedCertificateEntries {
		out.serials[serial(e.SerialNumber)] = true
	}
	return out, nil
}

func serial(n *big.Int) string { return n.Text(16) }

// indirect reads indirectCRL [4] of an IssuingDistributionPoint; what does not
// parse reads as indirect.
func indirect(der []byte) bool {
	in := cryptobyte.String(der)
	var body cryptobyte.String
	if !in.ReadASN1(&body, asn1.SEQUENCE) || !in.Empty() {
		return true
	}
	for !body.Empty() {
		var value cryptobyte.String
		var tag asn1.Tag
		if !body.ReadAnyASN1(&value, &tag) {
			return true
		}
		if tag == asn1.Tag(4).ContextSpecific() && !bytes.Equal(value, []byte{0}) {
			return true
		}
	}
	return false
}

// Check asks of each certificate of a chain (leaf first, anchor last) whether its
// issuer's newest configured list names it, at the time now. An issuer without a
// configured list revokes nothing; one whose list is stale or not its own leaves
// open what it revoked, so that the chain is refused. Errors: ErrRevoked,
// ErrStaleCRL, ErrCRLKey, wrapped with the certificate's name.
func (c CRLs) Check(chain []*x509.Certificate, now time.Time) error {
	for i := 0; i+1 < len(chain); i++ {
		cert, issuer := chain[i], chain[i+1]
		lists := c.byIssuer[string(issuer.RawSubject)]
		if len(lists) == 0 {
			continue
		}
		newest, err := newestOf(lists, issuer)
		switch {
		case err != nil:
		case newest.serials[serial(cert.SerialNumber)]:
			err = ErrRevoked
		case now.After(newest.NextUpdate):
			err = ErrStaleCRL
		}
		if err != nil {
			return fmt.Errorf("certificate %s of issuer %q: %w", serial(cert.SerialNumber), issuer.Subject, err)
		}
	}
	return nil
}

// newestOf picks among the lists that the issuer's key signed. CAs share a name
// across keys, so that a list of another key is passed over as long as there is
// one of this key.
func newestOf(lists []list, issuer *x509.Certificate) (list, error) {
	var best list
	for _, l := range lists {
		if l.CheckSignatureFrom(issuer) == nil && (best.RevocationList == nil || l.ThisUpdate.After(best.ThisUpdate)) {
			best = l
		}
	}
	if best.RevocationList == nil {
		return list{}, ErrCRLKey
	}
	return best, nil
}
