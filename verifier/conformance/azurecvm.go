package conformance

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strings"

	"github.com/zonebroker/zonebroker/verifier/azure"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// confidential is evidence of a confidential machine of Azure.
type confidential struct {
	hcl       []byte
	with      azure.Hardware
	quote     []byte // TPMS_ATTEST, nil for none
	signature []byte // TPMT_SIGNATURE
	pcrs      map[int][]byte
}

// judgeAzureCVM follows section 5 of the reference: form and runtime data, the
// quote by the key that they name, then the hardware that vouches for them.
func judgeAzureCVM(c *testcase) (facts, error) {
	at, err := c.time()
	if err != nil {
		return nil, err
	}
	trust, err := c.amd()
	if err != nil {
		return nil, err
	}
	intel, err := c.tdxTrust(nil)
	if err != nil {
		return nil, err
	}
	got, err := c.confidential()
	if err != nil {
		return nil, err
	}
	h, err := azure.ParseHCL(got.hcl)
	if err != nil {
		return nil, err
	}
	if got.quote != nil {
		if err := c.judgeVTPM(&got, h.AK()); err != nil {
			return nil, err
		}
	}
	m, err := azure.VerifyHCL(h, got.with, azure.HCLTrust{SNP: trust, TDX: azure.TDQuotes(intel)}, at)
	if err != nil {
		return nil, err
	}
	f := m.Facts()
	return facts{"secure_boot": onOff(f.Values("azure.cvm.secure_boot"))}, refuseHazards(f)
}

func onOff(values []string) string {
	if len(values) != 1 {
		return ""
	}
	if values[0] == "true" {
		return "on"
	}
	return "off"
}

// confidential reads the file of the row, and what the context puts beside it.
func (c *testcase) confidential() (confidential, error) {
	with, err := c.vouchers()
	if err != nil {
		return confidential{}, err
	}
	if c.has("container") {
		return c.trustee(with)
	}
	got := confidential{with: with}
	if got.quote, err = c.companion("quote"); err != nil {
		return got, err
	}
	if err = c.hcl(&got); err != nil || got.quote == nil {
		return got, err
	}
	if got.signature, err = c.companion("sig"); err != nil {
		return got, err
	}
	if _, err := c.choice("sigformat", "", "raw"); err != nil { // the length tells
		return got, err
	}
	got.signature = azureSignature(got.signature)
	bank, err := c.bank()
	if err != nil {
		return got, err
	}
	asked, err := c.selection(said(got.quote))
	if err != nil {
		return got, err
	}
	values, given, err := c.pcrs(bank, asked)
	if given {
		got.pcrs = values
	}
	return got, err
}

// vouchers reads what the context names to sign the hardware report.
func (c *testcase) vouchers() (azure.Hardware, error) {
	certificate, err := c.endorsement()
	if err != nil {
		return azure.Hardware{}, err
	}
	quote, err := c.companion("td_quote")
	return azure.Hardware{Certificate: certificate, TDQuote: quote}, err
}

// hcl reads the HCL report, which is the row's file unless the row names one: its
// file is then what lies beside, a quote of either kind or the certificate.
func (c *testcase) hcl(got *confidential) error {
	raw, err := c.open(c.row.Path)
	if err != nil || !c.has("report") {
		got.hcl = raw
		return err
	}
	switch {
	case bytes.HasPrefix(raw, []byte("\xffTCG")):
		got.quote = raw
	case bytes.HasPrefix(raw, []byte{4, 0}), bytes.HasPrefix(raw, []byte{5, 0}): // version of a TD quote
		got.with.TDQuote = raw
	default:
		got.with.Certificate = raw
	}
	got.hcl, err = c.companion("report")
	return err
}

// azureSignature puts the header before what the vTPMs of Azure hand out: the
// number alone, in the length of an RSA key. Nothing here decides by it.
func azureSignature(sig []byte) []byte {
	switch len(sig) {
	case 256, 384, 512:
		return tpm2.RawRSASSA(sig)
	}
	return sig
}

// said returns what a quote says itself, nil where it is none.
func said(quote []byte) *tpm2.Structure {
	s, err := tpm2.ReadAttest(quote, tpm2.KindQuote)
	if err != nil {
		return nil
	}
	return &s
}

// judgeVTPM judges the quote under the key of the runtime data, as kind quote does.
func (c *testcase) judgeVTPM(got *confidential, ak []byte) error {
	ev := tpm2.Evidence{AKKey: ak, Attest: got.quote, Signature: got.signature, PCRs: got.pcrs}
	ctx := tpm2.Context{AnySigner: true, WithoutValues: got.pcrs == nil}
	s := said(got.quote)
	var err error
	if ctx.Bank, err = c.bank(); err != nil {
		return err
	}
	if ctx.Selection, err = c.selection(s); err != nil {
		return err
	}
	dropUnquoted(ev.PCRs, ctx.Selection)
	want, given, err := c.bound("qualifying", "nonce", "report_data")
	if err != nil {
		return err
	}
	if ctx.Qualifying = want; !given && s != nil {
		ctx.Qualifying = s.ExtraData
	}
	quote, _, err := tpm2.Verify(ev, ctx)
	if err != nil {
		return err
	}
	return c.judgeLog(quote)
}

// octets are bytes as Trustee's evidence writes them: a list of numbers, hex, or
// base64url.
type octets []byte

func (o *octets) UnmarshalJSON(raw []byte) error {
	var list []uint16
	if json.Unmarshal(raw, &list) == nil {
		*o = octets{}
		for _, n := range list {
			if n > 0xff {
				return bad("a byte of %d", n)
			}
			*o = append(*o, byte(n))
		}
		return nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return err
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		b, err = base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
	}
	if err != nil {
		b = []byte(s) // a certificate in PEM
	}
	*o = b
	return nil
}

// vTPMQuote is the quote in Trustee's evidence, with all PCRs of the SHA-256 bank.
type vTPMQuote struct {
	Message, Signature octets
	PCRs               []octets
}

// trustee reads the JSON of Trustee's verifiers for Azure: the first layout
// (report, quote, vcek in PEM), and the ones after it (hcl_report, tpm_quote, vcek
// in DER or td_quote). What the context names goes before what is in the file.
func (c *testcase) trustee(with azure.Hardware) (confidential, error) {
	var got confidential
	if _, err := c.choice("container", "trustee"); err != nil {
		return got, err
	}
	raw, err := c.open(c.row.Path)
	if err != nil {
		return got, err
	}
	var v struct {
		Report, VCEK octets
		Quote        *vTPMQuote
		HCLReport    octets     `json:"hcl_report"`
		TPMQuote     *vTPMQuote `json:"tpm_quote"`
		TDQuote      octets     `json:"td_quote"`
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		return got, bad("%s is not the JSON of Trustee: %v", c.row.Path, err)
	}
	if v.HCLReport == nil {
		v.HCLReport, v.TPMQuote = v.Report, v.Quote
	}
	if v.TPMQuote == nil || v.HCLReport == nil || len(v.TPMQuote.PCRs) > tpm2.PCRs {
		return got, bad("%s holds no HCL report with the quote of its TPM", c.row.Path)
	}
	if with.Certificate == nil && !c.none("vcek") {
		with.Certificate = v.VCEK
	}
	if with.TDQuote == nil && !c.none("td_quote") {
		with.TDQuote = v.TDQuote
	}
	got = confidential{
		hcl: v.HCLReport, with: with,
		quote: v.TPMQuote.Message, signature: azureSignature(v.TPMQuote.Signature), pcrs: map[int][]byte{},
	}
	for i, p := range v.TPMQuote.PCRs {
		got.pcrs[i] = p
	}
	return got, nil
}
