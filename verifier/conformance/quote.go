package conformance

import (
	"bytes"
	"encoding/binary"

	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// capture is a quote as some machine made it.
type capture struct {
	ak                attestationKey
	attest, signature []byte
}

// judgeQuote follows section 5 of the reference: AK attributes, AK certificate,
// signature, structure, nonce, selection, PCR values, log.
func judgeQuote(c *testcase) (facts, error) {
	got, dump, err := c.quote()
	if err != nil {
		return nil, err
	}
	if _, err := got.ak.parse(); err != nil {
		return nil, err
	}
	if err := c.judgeAKCertificate(got.ak); err != nil {
		return nil, err
	}
	ev, ctx, err := c.evidence(got, dump)
	if err != nil {
		return nil, err
	}
	quote, _, err := tpm2.Verify(ev, ctx)
	if err != nil {
		return nil, err
	}
	return nil, c.judgeLog(quote)
}

// quote reads the capture that a row is about.
func (c *testcase) quote() (capture, *goAttestation, error) {
	if c.has("container") {
		dump, err := c.goAttestation()
		if err != nil {
			return capture{}, nil, err
		}
		got, err := dump.quote()
		return got, &dump, err
	}
	var got capture
	var err error
	if got.attest, err = c.open(c.row.Path); err != nil {
		return got, nil, err
	}
	if got.signature, err = c.signature(); err != nil {
		return got, nil, err
	}
	got.ak, err = c.ak()
	return got, nil, err
}

func (c *testcase) ak() (attestationKey, error) {
	raw, err := c.companion("ak")
	switch {
	case err != nil:
		return attestationKey{}, err
	case raw == nil:
		return attestationKey{}, bad("ak is missing")
	}
	return readAK(raw)
}

func (c *testcase) signature() ([]byte, error) {
	sig, err := c.companion("sig")
	switch {
	case err != nil:
		return nil, err
	case sig == nil:
		return nil, bad("sig is missing")
	case !c.has("sigformat"):
		return sig, nil
	}
	if _, err := c.choice("sigformat", "raw"); err != nil {
		return nil, err
	}
	return tpm2.RawRSASSA(sig), nil
}

// evidence puts a capture and its context into the words of the verifier.
func (c *testcase) evidence(got capture, dump *goAttestation) (tpm2.Evidence, tpm2.Context, error) {
	ev := tpm2.Evidence{AKPublic: got.ak.public, AKKey: got.ak.key, Attest: got.attest, Signature: got.signature}
	ctx := tpm2.Context{AnySigner: true} // nobody kept the pin of a capture: its name could only be held to itself
	var err error
	if ctx.Qualifying, _, err = c.bound("qualifying", "nonce", "report_data"); err != nil {
		return ev, ctx, err
	}
	if ctx.Bank, err = c.bank(); err != nil {
		return ev, ctx, err
	}
	var said *tpm2.Structure
	if s, err := tpm2.ReadAttest(got.attest, tpm2.KindQuote); err == nil {
		said = &s
	}
	if ctx.Selection, err = c.selection(said); err != nil {
		return ev, ctx, err
	}
	if c.has("config") {
		if _, err := c.choice("config", "signature_only", "pcrs_all_zero"); err != nil {
			return ev, ctx, err
		}
	}
	values, given, err := c.pcrs(ctx.Bank, ctx.Selection)
	if err != nil {
		return ev, ctx, err
	}
	if !given && dump != nil {
		values = dump.pcrs(ctx.Bank)
	}
	dropUnquoted(values, ctx.Selection)
	ev.PCRs, ctx.WithoutValues = values, c.get("config") == "signature_only"
	return ev, ctx, nil
}

// judgeLog explains the quoted values by the event log, where the row names one.
func (c *testcase) judgeLog(quote tpm2.Quote) error {
	raw, err := c.companion("log")
	if err != nil || raw == nil || len(quote.PCRValues()) == 0 {
		return err
	}
	_, err = explain(raw, quote.Bank(), quote.PCRValues())
	return err
}

func explain(raw []byte, bank tpm2.Bank, quoted map[int][]byte) (eventlog.Explained, error) {
	log, err := eventlog.ParseBank(raw, eventlog.Bank(bank))
	if err != nil {
		return eventlog.Explained{}, err
	}
	return log.Explain(quoted)
}

// judgeAttest judges a bare structure: its form, and what else the row gives.
func judgeAttest(c *testcase) (facts, error) {
	kind, err := c.choice("type", "", "quote", "certify")
	if err != nil {
		return nil, err
	}
	if c.has("ak") && c.has("sig") {
		if kind == "certify" {
			return judgeCertify(c)
		}
		return judgeQuote(c)
	}
	raw, err := c.open(c.row.Path)
	if err != nil {
		return nil, err
	}
	if kind == "certify" {
		return nil, c.bareCertify(raw)
	}
	return nil, c.bareQuote(raw)
}

// checkBound compares extraData with what the row says was asked for, where it
// says so; another value is refused by code.
func (c *testcase) checkBound(extraData []byte, code reason.Code) error {
	want, given, err := c.bound("qualifying", "nonce", "report_data")
	if err != nil {
		return err
	}
	if given && (len(want) == 0 || !bytes.Equal(extraData, want)) {
		return reason.New(code, "extraData is not what was asked for")
	}
	return nil
}

func (c *testcase) bareQuote(raw []byte) error {
	s, err := tpm2.ReadAttest(raw, tpm2.KindQuote)
	if err != nil {
		return err
	}
	if err := c.checkBound(s.ExtraData, reason.TPM2QuoteNonceMismatch); err != nil {
		return err
	}
	bank, err := c.bank()
	if err != nil {
		return err
	}
	sel, err := c.selection(&s)
	if err != nil {
		return err
	}
	return s.CheckSelection(bank, sel)
}

func (c *testcase) bareCertify(raw []byte) error {
	s, err := tpm2.ReadAttest(raw, tpm2.KindCertify)
	if err != nil {
		return err
	}
	if err := c.checkBound(s.ExtraData, reason.TPM2CertifyNonceMismatch); err != nil {
		return err
	}
	public, err := c.certified()
	if err != nil || public == nil {
		return err
	}
	name, err := tpm2.NameOf(public)
	if err == nil && !bytes.Equal(name, s.Name) {
		err = reason.New(reason.TPM2CertifyMismatch, "another key was certified")
	}
	return err
}

// certified returns the TPMT_PUBLIC of the certified key, nil where none is given.
func (c *testcase) certified() ([]byte, error) {
	raw, err := c.companion("pub")
	if err != nil || raw == nil {
		return nil, err
	}
	if sizePrefix(raw) == len(raw)-2 {
		return raw[2:], nil
	}
	return raw, nil
}

// sizePrefix reads the 2-byte size of a TPM2B, big-endian; 0 where there is none.
func sizePrefix(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	return int(binary.BigEndian.Uint16(b))
}

// judgeCertify judges the answer of TPM2_Certify over an SVID key.
func judgeCertify(c *testcase) (facts, error) {
	got, _, err := c.quote()
	if err != nil {
		return nil, err
	}
	ak, err := got.ak.parse()
	if err != nil {
		return nil, err
	}
	if err := c.judgeAKCertificate(got.ak); err != nil {
		return nil, err
	}
	public, err := c.certified()
	switch {
	case err != nil:
		return nil, err
	case public == nil:
		return nil, bad("pub is missing")
	}
	qualifying, err := c.certifyNonce()
	if err != nil {
		return nil, err
	}
	ev := tpm2.CertifyEvidence{Public: public, Attest: got.attest, Signature: got.signature}
	_, err = tpm2.VerifyCertify(pinCertify(ak, got), ev, qualifying)
	return nil, err
}

// certifyNonce: TPM2_Certify has to carry what the quote of its request carries.
func (c *testcase) certifyNonce() ([]byte, error) {
	want, given, err := c.bound("qualifying", "nonce", "report_data")
	if err != nil || given {
		return want, err
	}
	quote, err := c.companion("quote")
	switch {
	case err != nil:
		return nil, err
	case quote == nil:
		return nil, bad("neither qualifying nor quote says what has to be bound")
	}
	s, err := tpm2.ReadAttest(quote, tpm2.KindQuote)
	return s.ExtraData, err
}

// pinCertify pins the AK where it signs as a primary key, or where nothing but
// the structure itself could say how it is named. An AK with a Name that signs
// as somebody else stays pinned to its own.
func pinCertify(ak tpm2.AK, got capture) tpm2.AK {
	s, err := tpm2.ReadAttest(got.attest, tpm2.KindCertify)
	if err != nil {
		return ak
	}
	own := ak.Hierarchy(s.Signer) != ""
	if own || len(ak.Name()) == 0 || tpm2.Signed(ak, got.attest, got.signature) == nil {
		return ak.Pinned(s.Signer)
	}
	return ak
}
