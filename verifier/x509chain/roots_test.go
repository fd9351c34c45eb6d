package x509chain_test

import (
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

func TestRootsWithoutAnchor(t *testing.T) {
	root := newCA(t, "Root", 1, nil)
	ca := newCA(t, "EK CA", 2, root)
	if r, err := x509chain.NewRoots(ca.cert.Raw); !errors.Is(err, x509chain.ErrNoAnchor) || r.Len() != 0 {
		t.Errorf("%d anchors, %v", r.Len(), err)
	}
	if r, err := x509chain.NewRoots(); err != nil || r.Len() != 0 {
		t.Errorf("nothing given: %v", err)
	}
	r, err := x509chain.NewRoots(ca.cert.Raw, root.cert.Raw)
	if err != nil || r.Len() != 1 {
		t.Fatalf("%d anchors, %v", r.Len(), err)
	}
	leaf := newCA(t, "EK", 77, ca)
	chains, err := r.Chains(leaf.cert, nil, noon)
	if err != nil || len(chains) != 1 || len(chains[0]) != 3 || chains[0][2] == nil || !chains[0][2].Equal(root.cert) {
		t.Errorf("%d chains, %v", len(chains), err)
	}
	if _, err := r.Chains(leaf.cert, nil, time.Time{}); !x509chain.IsExpired(err) {
		t.Errorf("no time given: %v", err)
	}
	if _, err := (x509chain.Roots{}).Chains(leaf.cert, []*x509.Certificate{ca.cert, root.cert}, noon); err == nil || x509chain.IsExpired(err) {
		t.Errorf("what was sent along is an anchor: %v", err)
	}
}
