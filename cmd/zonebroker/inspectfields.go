package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/verifier/ekcert"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

func inspectQuoteCmd() *cobra.Command {
	return inspectFieldsCmd("quote", "Show the fields of a TPMS_ATTEST of a quote or of TPM2_Certify",
		"Quote shows what a TPMS_ATTEST says, as strictly read as verify reads it. Without\nits signature it proves nothing: zonebroker verify judges an evidence file.",
		"  zonebroker inspect quote quote.bin\n  zonebroker inspect quote quote.bin -o json", quoteFields)
}

func quoteFields(raw []byte) ([]shownField, error) {
	kind := tpm2.KindQuote
	if len(raw) >= 6 && tpm2.Kind(raw[4])<<8|tpm2.Kind(raw[5]) == tpm2.KindCertify {
		kind = tpm2.KindCertify
	}
	s, err := tpm2.ReadAttest(raw, kind)
	if err != nil {
		return nil, err
	}
	out := []shownField{
		{"type", map[tpm2.Kind]string{tpm2.KindQuote: "quote", tpm2.KindCertify: "certify"}[kind]},
		{"qualified signer", fmt.Sprintf("%x", s.Signer)},
		{"extra data", fmt.Sprintf("%x", s.ExtraData)},
		{"clock", fmt.Sprint(s.Clock.Millis)},
		{"reset count", fmt.Sprint(s.Clock.ResetCount)},
		{"restart count", fmt.Sprint(s.Clock.RestartCount)},
		{"safe", fmt.Sprint(s.Clock.Safe)},
		{"firmware version", fmt.Sprintf("0x%016x", s.FirmwareVersion)},
	}
	for _, sel := range s.Selections {
		out = append(out, shownField{"selection", fmt.Sprintf("bank 0x%04x, mask %x", sel.Algorithm, sel.Mask)})
	}
	if kind == tpm2.KindCertify {
		return append(out, shownField{"name", fmt.Sprintf("%x", s.Name)}, shownField{"qualified name", fmt.Sprintf("%x", s.QualifiedName)}), nil
	}
	return append(out, shownField{"PCR digest", fmt.Sprintf("%x", s.PCRDigest)}), nil
}

func inspectAKPublicCmd() *cobra.Command {
	return inspectFieldsCmd("akpublic", "Show the fields of a TPMT_PUBLIC, and whether it can be an AK",
		"Akpublic shows what the public area of a key says (TPMT_PUBLIC without the outer\nsize), its Name, and whether Zonebroker would take it for an AK or an EK.",
		"  zonebroker inspect akpublic ak.pub\n  zonebroker inspect akpublic ak.pub -o json", publicFields)
}

// attributeNames are the bits of TPMA_OBJECT (Part 2, 8.3.2).
var attributeNames = []struct {
	bit  uint
	name string
}{
	{1, "fixedTPM"},
	{2, "stClear"},
	{4, "fixedParent"},
	{5, "sensitiveDataOrigin"},
	{6, "userWithAuth"},
	{7, "adminWithPolicy"},
	{10, "noDA"},
	{11, "encryptedDuplication"},
	{16, "restricted"},
	{17, "decrypt"},
	{18, "sign"},
}

func publicFields(raw []byte) ([]shownField, error) {
	p, err := tpm2.ReadPublic(raw)
	if err != nil {
		return nil, err
	}
	var set []string
	for _, a := range attributeNames {
		if p.Attributes&(1<<a.bit) != 0 {
			set = append(set, a.name)
		}
	}
	name, err := tpm2.NameOf(raw)
	if err != nil {
		return nil, err
	}
	_, akErr := tpm2.ParseAK(raw)
	_, ekErr := tpm2.ParseEK(raw)
	return []shownField{
		{"type", fmt.Sprintf("0x%04x", p.Type)},
		{"name algorithm", fmt.Sprintf("0x%04x", p.NameAlg)},
		{"attributes", fmt.Sprintf("0x%08x %s", p.Attributes, strings.Join(set, " "))},
		{"policy", fmt.Sprintf("%x", p.Policy)},
		{"scheme", fmt.Sprintf("0x%04x with hash 0x%04x", p.Scheme, p.Hash)},
		{"RSA bits", fmt.Sprint(p.Bits)},
		{"ECC curve", fmt.Sprintf("0x%04x", p.Curve)},
		{"key", fmt.Sprintf("%x%x", p.X, p.Y)},
		{"name with SHA-256", fmt.Sprintf("%x", name)},
		{"as an AK", orGood(akErr)},
		{"as an EK", orGood(ekErr)},
	}, nil
}

func orGood(err error) string {
	if err == nil {
		return "good"
	}
	return err.Error()
}

func inspectEKCertCmd() *cobra.Command {
	return inspectFieldsCmd("ekcert", "Show the fields of an EK certificate as it lies in the TPM",
		"Ekcert takes the certificate out of what lies in the NV index (DER with header and\nfill, or PEM) and shows what it says. It verifies no chain: zonebroker conformance\nor an evidence file with roots does.",
		"  zonebroker inspect ekcert ek.crt\n  zonebroker inspect ekcert ek.crt -o json", certificateFields)
}

func certificateFields(raw []byte) ([]shownField, error) {
	if block, _ := pem.Decode(raw); block != nil {
		raw = block.Bytes
	}
	der, ok := x509chain.Unwrap(raw)
	if !ok {
		return nil, reason.New(reason.EKCertEncoding, "not one X.509 certificate in DER")
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, reason.Wrap(reason.EKCertEncoding, "not one X.509 certificate in DER: "+err.Error(), err)
	}
	_, keyErr := ekcert.SubjectKey(raw)
	var critical []string
	for _, id := range c.UnhandledCriticalExtensions {
		critical = append(critical, id.String())
	}
	var usages []string
	for _, id := range c.UnknownExtKeyUsage {
		usages = append(usages, id.String())
	}
	return []shownField{
		{"subject", c.Subject.String()},
		{"issuer", c.Issuer.String()},
		{"serial", fmt.Sprintf("%x", c.SerialNumber)},
		{"not before", c.NotBefore.UTC().Format("2006-01-02T15:04:05Z")},
		{"not after", c.NotAfter.UTC().Format("2006-01-02T15:04:05Z")},
		{"signature", c.SignatureAlgorithm.String()},
		{"key of an EK", orGood(keyErr)},
		{"CA", fmt.Sprint(c.IsCA)},
		{"extended key usage", strings.Join(usages, " ")},
		{"critical extensions", strings.Join(critical, " ")},
		{"around it", fmt.Sprintf("%d bytes of header and fill", len(raw)-len(der))},
		{"SHA-256", fmt.Sprintf("%x", sha256.Sum256(der))},
	}, nil
}
