package issuer

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// DefaultRefreshHint is how often readers fetch the bundle again.
const DefaultRefreshHint = 5 * time.Minute

// Bundle returns the SPIFFE bundle document of a trust domain: every published
// CA as an entry of use x509-svid and every published JWT key as one of use
// jwt-svid, in the order of key ids, so that replicas give equal bytes for equal
// keys. No keys means an empty list, which readers take as "nothing is trusted".
// The store has checked the HMAC of each row; one that contradicts itself is
// store.row_forged all the same. The refresh hint is rounded up to seconds; zero
// means DefaultRefreshHint.
func Bundle(trustDomain string, keys []ledger.Key, sequence uint64, refreshHint time.Duration) ([]byte, error) {
	td, err := spiffeid.TrustDomainFromString(trustDomain)
	if err != nil || td.Name() != trustDomain {
		return nil, fmt.Errorf("trust domain %q is not the name of a SPIFFE trust domain", trustDomain)
	}
	if refreshHint <= 0 {
		refreshHint = DefaultRefreshHint
	}
	doc := struct {
		Keys        []jose.JSONWebKey `json:"keys"`
		Sequence    uint64            `json:"spiffe_sequence"`
		RefreshHint int64             `json:"spiffe_refresh_hint"`
	}{nil, sequence, int64((refreshHint + time.Second - 1) / time.Second)}
	doc.Keys, err = keyEntries(keys, func(k ledger.Key) (jose.JSONWebKey, error) { return bundleEntry(td, k) })
	if err != nil {
		return nil, err
	}
	return json.Marshal(doc)
}

func bundleEntry(td spiffeid.TrustDomain, k ledger.Key) (jose.JSONWebKey, error) {
	if isJWT(k) {
		return tokenKey(k, "jwt-svid")
	}
	cert, err := authority(td, k)
	if err != nil {
		return jose.JSONWebKey{}, err
	}
	return jose.JSONWebKey{Key: cert.PublicKey, Certificates: []*x509.Certificate{cert}, Use: "x509-svid"}, nil
}

// keyEntries returns the entries of the rows in the order of key ids, one for
// each key. Every row is read, also one that repeats a key.
func keyEntries(keys []ledger.Key, read func(ledger.Key) (jose.JSONWebKey, error)) ([]jose.JSONWebKey, error) {
	sorted := slices.Clone(keys)
	slices.SortFunc(sorted, func(a, b ledger.Key) int { return cmp.Or(cmp.Compare(a.ID, b.ID), bytes.Compare(a.DER, b.DER)) })
	out := []jose.JSONWebKey{}
	for at, k := range sorted {
		entry, err := read(k)
		if err != nil {
			return nil, err
		}
		if at > 0 && bytes.Equal(k.DER, sorted[at-1].DER) {
			continue
		}
		out = append(out, entry)
	}
	return out, nil
}

// authority reads a row and checks that it is what a CA of ours looks like; the
// trust anchor, or a CA of another trust domain, must never get in.
func authority(td spiffeid.TrustDomain, k ledger.Key) (*x509.Certificate, error) {
	forged := func(cause error) (*x509.Certificate, error) {
		return nil, reason.Wrap(reason.StoreRowForged, "a published key is not a CA of this trust domain", cause)
	}
	cert, err := x509.ParseCertificate(k.DER)
	if err != nil {
		return forged(err)
	}
	id, _, err := spkiIDs(cert.RawSubjectPublicKeyInfo)
	if err != nil {
		return forged(err)
	}
	// A certificate that is no CA does not verify itself either.
	ours := len(cert.URIs) == 1 && cert.URIs[0].String() == td.IDString()
	lives := cert.NotAfter.Sub(cert.NotBefore)
	if k.Kind != KindCA || k.ID != id || !ours || lives > MaxCALifetime || cert.CheckSignatureFrom(cert) != nil {
		return forged(nil)
	}
	return cert, nil
}
