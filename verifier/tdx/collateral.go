package tdx

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/strictjson"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

// MaxCollateral bounds one bundle in bytes: the largest part is the revocation
// list of all PCKs of a CA.
const MaxCollateral = 4 << 20

// bundle is the form in which collateral is stored: the answers of Intel's service
// for one family of platforms, documents as the very bytes that are signed.
type bundle struct {
	PCKCRLChain         string `json:"pck_crl_issuer_chain"`
	RootCRL             string `json:"root_ca_crl"` // hex DER
	PCKCRL              string `json:"pck_crl"`     // hex DER
	TCBInfoChain        string `json:"tcb_info_issuer_chain"`
	TCBInfo             string `json:"tcb_info"`
	TCBInfoSignature    string `json:"tcb_info_signature"` // hex, r ‖ s
	QEIdentityChain     string `json:"qe_identity_issuer_chain"`
	QEIdentity          string `json:"qe_identity"`
	QEIdentitySignature string `json:"qe_identity_signature"`

	// What some tools put beside: the chain of one machine, which each quote has of
	// its own. It is not read.
	PCKChain string `json:"pck_certificate_chain"`
}

// collateral is a bundle after all that can be judged without a clock and without
// a quote. err is what is wrong with it at any time; a quote that needs it is
// refused with that.
type collateral struct {
	err     error
	tcb     tcbInfo
	qe      qeIdentity
	crls    x509chain.CRLs
	pckCRL  *x509.RevocationList
	signers [][]*x509.Certificate // chains of what was signed, each to a root
	begin   time.Time             // of the part that begins last
	end     time.Time             // of the part that ends first
}

func newCollateral(raw []byte, roots x509chain.Roots) *collateral {
	c := &collateral{}
	c.err = c.read(raw, roots)
	return c
}

func (c *collateral) read(raw []byte, roots x509chain.Roots) error {
	var b bundle
	if len(raw) > MaxCollateral {
		return reason.Newf(reason.TDXCollateralMissing, "a bundle of %d bytes, at most %d are read", len(raw), MaxCollateral)
	}
	if err := strictjson.UnmarshalKnown(raw, &b); err != nil {
		return reason.Wrap(reason.TDXCollateralMissing, "the collateral is not a bundle in JSON", err)
	}
	for _, part := range [...]struct{ name, text string }{
		{"root CA CRL", b.RootCRL},
		{"PCK CRL", b.PCKCRL},
		{"issuer of the PCK CRL", b.PCKCRLChain},
		{"TCB info", b.TCBInfo},
		{"signature of the TCB info", b.TCBInfoSignature},
		{"issuer of the TCB info", b.TCBInfoChain},
		{"QE identity", b.QEIdentity},
		{"signature of the QE identity", b.QEIdentitySignature},
		{"issuer of the QE identity", b.QEIdentityChain},
	} {
		if part.text == "" {
			return reason.New(reason.TDXCollateralMissing, "the collateral has no "+part.name)
		}
	}
	if err := c.readCRLs(&b, roots); err != nil {
		return err
	}
	if err := c.verifySigned("TCB info", b.TCBInfo, b.TCBInfoSignature, b.TCBInfoChain, roots); err != nil {
		return err
	}
	if err := c.verifySigned("QE identity", b.QEIdentity, b.QEIdentitySignature, b.QEIdentityChain, roots); err != nil {
		return err
	}
	if err := c.tcb.read(b.TCBInfo); err != nil {
		return err
	}
	if err := c.qe.read(b.QEIdentity); err != nil {
		return err
	}
	c.within(c.tcb.IssueDate, c.tcb.NextUpdate)
	c.within(c.qe.IssueDate, c.qe.NextUpdate)
	return nil
}

// within narrows the time in which all of the collateral is good.
func (c *collateral) within(begin, end time.Time) {
	if begin.After(c.begin) {
		c.begin = begin
	}
	if c.end.IsZero() || end.Before(c.end) {
		c.end = end
	}
}

// chain verifies a chain of the bundle up to a root, at the time when its last
// certificate begins: whether it is good now is asked with each quote.
func (c *collateral) chain(text string, roots x509chain.Roots) ([]*x509.Certificate, error) {
	certs, ok := parsePEM([]byte(text))
	if !ok {
		return nil, reason.New(reason.TDXCollateralSignature, "an issuer of the collateral is not a chain in PEM")
	}
	var at time.Time
	for _, cert := range certs {
		if cert.NotBefore.After(at) {
			at = cert.NotBefore
		}
	}
	chains, err := roots.Chains(certs[0], certs[1:], at)
	if err != nil {
		return nil, reason.Wrap(reason.TDXCollateralSignature, "an issuer of the collateral does not chain to the configured Intel root", err)
	}
	c.signers = append(c.signers, chains[0])
	for _, cert := range chains[0] {
		c.within(cert.NotBefore, cert.NotAfter)
	}
	return chains[0], nil
}

// readCRLs verifies both lists under their issuers: the CA of the PCKs and the
// root.
func (c *collateral) readCRLs(b *bundle, roots x509chain.Roots) error {
	rootDER, err1 := hex.DecodeString(b.RootCRL)
	pckDER, err2 := hex.DecodeString(b.PCKCRL)
	if err1 != nil || err2 != nil {
		return reason.New(reason.TDXCollateralSignature, "a revocation list is not hex")
	}
	chain, err := c.chain(b.PCKCRLChain, roots)
	if err != nil {
		return err
	}
	if c.crls, err = x509chain.NewCRLs(rootDER, pckDER); err != nil {
		return reason.Wrap(reason.TDXCollateralSignature, "a revocation list cannot be applied", err)
	}
	for i, der := range [][]byte{rootDER, pckDER} {
		l, err := x509.ParseRevocationList(der)
		if err != nil {
			return reason.Wrap(reason.TDXCollateralSignature, "a revocation list does not parse", err)
		}
		issuer := chain[len(chain)-1]
		if i == 1 {
			issuer, c.pckCRL = chain[0], l
		}
		if !bytes.Equal(l.RawIssuer, issuer.RawSubject) || l.CheckSignatureFrom(issuer) != nil {
			return reason.Newf(reason.TDXCollateralSignature, "the revocation list is not signed by %q", issuer.Subject.CommonName)
		}
		c.within(l.ThisUpdate, l.NextUpdate)
	}
	return nil
}

// verifySigned verifies a document of Intel's over the bytes as they stand.
func (c *collateral) verifySigned(name, document, signature, issuer string, roots x509chain.Roots) error {
	sig, err := hex.DecodeString(signature)
	if err != nil || len(sig) != sigSize {
		return reason.New(reason.TDXCollateralSignature, "the signature of the "+name+" is not 64 bytes in hex")
	}
	chain, err := c.chain(issuer, roots)
	if err != nil {
		return err
	}
	signer := chain[0]
	key, ok := signer.PublicKey.(*ecdsa.PublicKey)
	if signer.Subject.CommonName != nameTCBSigning || signer.IsCA || !ok || key.Curve != elliptic.P256() {
		return reason.Newf(reason.TDXCollateralSignature, "the %s is signed by %q, not by Intel's key for it", name, signer.Subject.CommonName)
	}
	if !verifyRaw(key, []byte(document), sig) {
		return reason.New(reason.TDXCollateralSignature, "the signature of the "+name+" does not verify")
	}
	return nil
}

// check asks what depends on the time and on the chain of a quote.
func (c *collateral) check(chain []*x509.Certificate, now time.Time) error {
	if !bytes.Equal(c.pckCRL.RawIssuer, chain[0].RawIssuer) {
		return reason.Newf(reason.TDXCollateralMismatch, "the PCK certificate is of %q, the revocation list of %q",
			chain[0].Issuer.CommonName, c.pckCRL.Issuer.CommonName)
	}
	if err := c.current(now); err != nil {
		return err
	}
	for _, chain := range append(c.signers[:len(c.signers):len(c.signers)], chain) {
		if err := c.crls.Check(chain, now); err != nil {
			return reason.Wrap(reason.TDXUntrusted, err.Error(), err)
		}
	}
	return nil
}

// current asks whether the collateral is of now: Intel's lists of what is broken
// grow, and an old list knows less.
func (c *collateral) current(now time.Time) error {
	if now.Before(c.begin) || now.After(c.end) {
		return reason.Newf(reason.TDXCollateralExpired, "the collateral is good from %s to %s, which %s is not within",
			c.begin.UTC().Format(time.RFC3339), c.end.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

func errNoCollateral(fmspc string) error {
	return reason.Newf(reason.TDXCollateralMissing, "no collateral is configured for platforms of fmspc %s", fmspc)
}

func (c *collateral) errPlatform(fmspc string) error {
	return reason.Newf(reason.TDXCollateralMismatch, "the TCB info is for platforms of fmspc %x, not of %s", []byte(c.tcb.FMSPC), fmspc)
}

// verifyRaw verifies r ‖ s, big-endian, over SHA-256 of message.
func verifyRaw(key *ecdsa.PublicKey, message, sig []byte) bool {
	digest := sha256.Sum256(message)
	var der cryptobyte.Builder
	der.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(new(big.Int).SetBytes(sig[:sigSize/2]))
		b.AddASN1BigInt(new(big.Int).SetBytes(sig[sigSize/2:]))
	})
	encoded, err := der.Bytes()
	return err == nil && ecdsa.VerifyASN1(key, digest[:], encoded)
}
