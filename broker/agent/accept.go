package agent

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/claim"
)

// accept checks an answer and keeps it before anybody relies on it.
func (r *run) accept(a api.AttestResponse, c api.Challenge) (Result, error) {
	chain, bundle, err := r.check(a)
	if err != nil {
		return Result{}, err
	}
	s, peer := r.state, r.broker.Peer()
	s.TrustDomain, s.AKName, s.Enrolled = peer.TrustDomain().Name(), r.ak.Name, true
	s.Node, s.Zone, s.Prev = a.Node, a.Zone, a.AttestationID
	s.Began, s.Denied = r.began, ""
	s.AttestedAt, s.FreshUntil, s.RenewAt = a.AttestedAt, a.FreshUntil, a.RenewAt
	s.Chain, s.Bundle, s.Workloads = a.Chain, a.Bundle, a.Workloads
	s.ResetCount, s.RestartCount, s.PCRs = r.lastQuote.ResetCount, r.lastQuote.RestartCount, pcrDigest(r.lastQuote.PCRs)
	s.Checkpoint = newest(s.Checkpoint, a.Log.Checkpoint)
	if err := r.folder.save(s); err != nil {
		return Result{}, err
	}
	return Result{
		Node: a.Node, SPIFFEID: a.SPIFFEID, TrustDomain: s.TrustDomain, Zone: a.Zone, Tier: a.Tier,
		AttestationID: a.AttestationID, Purpose: c.Purpose, Format: r.format, InTPM: r.tpm != nil,
		AttestedAt: a.AttestedAt, FreshUntil: a.FreshUntil, RenewAt: a.RenewAt, ExpiresAt: chain[0].NotAfter,
		Chain: chain, Bundle: bundle, Log: a.Log, Events: a.Events, Workloads: a.Workloads,
	}, nil
}

// check: the SVID must verify under the bundle that came with it, be for the
// key of this host, and say in its claim what the answer says beside it. The
// bundle itself is as good as the connection, which the old trust authenticated.
func (r *run) check(a api.AttestResponse) ([]*x509.Certificate, []byte, error) {
	var chain []*x509.Certificate
	for _, der := range a.Chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, nil, answerFault("a certificate of the SVID does not parse", err)
		}
		chain = append(chain, c)
	}
	td := r.broker.Peer().TrustDomain()
	bundle, err := spiffebundle.Parse(td, a.Bundle)
	if err != nil {
		return nil, nil, answerFault("the bundle does not parse", err)
	}
	id, _, err := x509svid.Verify(chain, bundle, x509svid.WithTime(r.cfg.Now()))
	if err != nil {
		return nil, nil, answerFault("the SVID does not verify under the bundle", err)
	}
	if !bytes.Equal(chain[0].RawSubjectPublicKeyInfo, r.key.SPKI()) {
		return nil, nil, answerFault("the SVID is for another key than that of this host", nil)
	}
	claims, err := claim.FromCertificateInsecure(chain[0]) // verified above
	if err != nil {
		return nil, nil, answerFault("the SVID carries no zone claim", err)
	}
	if z := claims.Zone; id.String() != a.SPIFFEID || z.Name != a.Zone || z.Tier != a.Tier || z.Node != a.Node ||
		z.AttestationID != a.AttestationID || z.FreshUntil != a.FreshUntil.Unix() {
		return nil, nil, answerFault("the answer and the claim in the SVID differ", nil)
	}
	return chain, a.Bundle, nil
}

// newest keeps the checkpoint of the larger log. The agent has no key to judge
// it; it names it in its next request, and a broker whose log does not have it
// stops issuing.
func newest(held, got string) string {
	heldOrigin, heldSize, ok := checkpointHead(held)
	gotOrigin, gotSize, gotOK := checkpointHead(got)
	if ok && (!gotOK || heldOrigin == gotOrigin && heldSize >= gotSize) {
		return held
	}
	if !gotOK {
		return ""
	}
	return got
}

// checkpointHead reads origin and size, the first two lines of a tlog
// checkpoint (C2SP).
func checkpointHead(text string) (origin string, size int64, ok bool) {
	lines := strings.SplitN(text, "\n", 3)
	if len(lines) < 3 || len(text) > 64<<10 {
		return "", 0, false
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	return lines[0], size, err == nil && size >= 0 && lines[0] != ""
}

// Save writes the SVID's chain as PEM to path, leaf first, and beside it the
// SPIFFE bundle as path.bundle.json and its X.509 authorities as
// path.bundle.pem. No key is written: it cannot leave the TPM.
func (r Result) Save(path string) error {
	td, err := spiffeid.TrustDomainFromString(r.TrustDomain)
	if err != nil {
		return fmt.Errorf("save the SVID: %w", err)
	}
	bundle, err := spiffebundle.Parse(td, r.Bundle)
	if err != nil {
		return fmt.Errorf("save the SVID: %w", err)
	}
	dir, name := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	err = errors.Join(
		writeDurably(dir, name, encodePEM(r.Chain), 0o644),
		writeDurably(dir, name+".bundle.json", append(bytes.Clone(r.Bundle), '\n'), 0o644),
		writeDurably(dir, name+".bundle.pem", encodePEM(bundle.X509Authorities()), 0o644),
	)
	if err != nil {
		return &Fault{Kind: FaultFile, What: "save the SVID", Why: err.Error(), Fix: "name a file in a folder that this user may write with --save FILE", err: err}
	}
	return nil
}

func encodePEM(chain []*x509.Certificate) []byte {
	var out bytes.Buffer
	for _, c := range chain {
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // a buffer takes everything
	}
	return out.Bytes()
}
