package platform

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// collateral is what Intel publishes for the machines of one FMSPC, as one JSON
// document: texts exactly as they were signed, signatures and lists in hex.
type collateral struct {
	PCKCRLChain  string `json:"pck_crl_issuer_chain"`
	RootCRL      string `json:"root_ca_crl"`
	PCKCRL       string `json:"pck_crl"`
	TCBChain     string `json:"tcb_info_issuer_chain"`
	TCBInfo      string `json:"tcb_info"`
	TCBSignature string `json:"tcb_info_signature"`
	QEChain      string `json:"qe_identity_issuer_chain"`
	QEIdentity   string `json:"qe_identity"`
	QESignature  string `json:"qe_identity_signature"`

	fmspc        string
	issued, ends time.Time
	lists        [2]*x509.RevocationList // root, PCK
}

func readCollateral(raw []byte) (collateral, error) {
	var c collateral
	if err := json.Unmarshal(raw, &c); err != nil {
		return c, fmt.Errorf("no JSON: %w", err)
	}
	var tcb, qe struct {
		ID         string    `json:"id"`
		FMSPC      string    `json:"fmspc"`
		IssueDate  time.Time `json:"issueDate"`
		NextUpdate time.Time `json:"nextUpdate"`
	}
	if err := errors.Join(json.Unmarshal([]byte(c.TCBInfo), &tcb), json.Unmarshal([]byte(c.QEIdentity), &qe)); err != nil {
		return c, fmt.Errorf("tcb_info or qe_identity: %w", err)
	}
	if tcb.ID != "TDX" || qe.ID != "TD_QE" {
		return c, fmt.Errorf("it is for %q and %q, not for TDX and TD_QE", tcb.ID, qe.ID)
	}
	if !isHex(tcb.FMSPC, 12) || tcb.NextUpdate.IsZero() || qe.NextUpdate.IsZero() {
		return c, errors.New("fmspc or nextUpdate is missing")
	}
	c.fmspc, c.issued, c.ends = strings.ToLower(tcb.FMSPC), tcb.IssueDate.UTC(), tcb.NextUpdate.UTC()
	if qe.NextUpdate.Before(c.ends) {
		c.ends = qe.NextUpdate.UTC()
	}
	for i, text := range []string{c.RootCRL, c.PCKCRL} {
		der, err := hex.DecodeString(text)
		if err != nil {
			return c, fmt.Errorf("revocation list %d: %w", i+1, err)
		}
		list, err := readCRL(der)
		if err != nil {
			return c, fmt.Errorf("revocation list %d: %w", i+1, err)
		}
		c.lists[i] = list.crl
		if list.ends.Before(c.ends) {
			c.ends = list.ends
		}
	}
	return c, nil
}

func isHex(s string, n int) bool {
	_, err := hex.DecodeString(s)
	return err == nil && len(s) == n
}

// believe checks all signatures of the collateral under Intel's root.
func (c *collateral) believe(roots []*x509.Certificate) error {
	tcb, err := leafUnder(c.TCBChain, roots)
	if err != nil {
		return fmt.Errorf("tcb_info_issuer_chain: %w", err)
	}
	qe, err := leafUnder(c.QEChain, roots)
	if err != nil {
		return fmt.Errorf("qe_identity_issuer_chain: %w", err)
	}
	pck, err := leafUnder(c.PCKCRLChain, roots)
	if err != nil {
		return fmt.Errorf("pck_crl_issuer_chain: %w", err)
	}
	if !signed(tcb, c.TCBInfo, c.TCBSignature) {
		return errors.New("the signature of tcb_info is wrong")
	}
	if !signed(qe, c.QEIdentity, c.QESignature) {
		return errors.New("the signature of qe_identity is wrong")
	}
	if !listSigned(c.lists[1], []*x509.Certificate{pck}) || !listSigned(c.lists[0], roots) {
		return errors.New("the signature of a revocation list is wrong")
	}
	return nil
}

// leafUnder returns the first certificate of a PEM chain, which one of the roots
// has signed: Intel's chains have two.
func leafUnder(chain string, roots []*x509.Certificate) (*x509.Certificate, error) {
	certs, err := certificates([]byte(chain))
	if err != nil {
		return nil, err
	}
	if !certSigned(certs[0], roots) {
		return nil, errors.New("no root of intel.root in the folder has signed it")
	}
	return certs[0], nil
}

// signed checks an ECDSA P-256 signature, r and s of 32 bytes each in hex.
func signed(by *x509.Certificate, text, signature string) bool {
	key, ok := by.PublicKey.(*ecdsa.PublicKey)
	sig, err := hex.DecodeString(signature)
	if !ok || err != nil || len(sig) != 64 {
		return false
	}
	sum := sha256.Sum256([]byte(text))
	return ecdsa.Verify(key, sum[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:]))
}

func certSigned(c *x509.Certificate, by []*x509.Certificate) bool {
	for _, ca := range by {
		if string(ca.RawSubject) == string(c.RawIssuer) && ca.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil {
			return true
		}
	}
	return false
}

func listSigned(l *x509.RevocationList, by []*x509.Certificate) bool {
	for _, ca := range by {
		if string(ca.RawSubject) == string(l.RawIssuer) && ca.CheckSignature(l.SignatureAlgorithm, l.RawTBSRevocationList, l.Signature) == nil {
			return true
		}
	}
	return false
}
