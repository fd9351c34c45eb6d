package tpm2

import (
	"bytes"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Kind is a TPM_ST of an attestation (Part 2, 6.9).
type Kind uint16

// Attestations of which the whole body is read. Of the others (creation, time,
// NV, audit) only the head is: nothing here accepts them.
const (
	KindQuote   = Kind(typeQuote)
	KindCertify = Kind(typeCertify)
)

// Structure is what a TPMS_ATTEST says. Nothing of it is verified: it is for
// people who look at a file, and for captures without a signature.
type Structure struct {
	Kind            Kind
	Signer          []byte // qualifiedSigner
	ExtraData       []byte
	Clock           Clock
	FirmwareVersion uint64

	Selections []BankSelection // KindQuote; at most four are read
	PCRDigest  []byte          // KindQuote

	Name, QualifiedName []byte // KindCertify: of the certified key

	attest *attest
}

// BankSelection is one TPMS_PCR_SELECTION: TPM_ALG_ID and mask, bit i%8 of byte
// i/8 is PCR i.
type BankSelection struct {
	Algorithm uint16
	Mask      []byte
}

// ReadAttest decodes a TPMS_ATTEST of the given kind as strictly as Verify does.
// Slices are the caller's.
//
// Errors: request.too_large, tpm2.version, tpm2.attest.truncated, .magic, .type,
// .safe, .trailing.
func ReadAttest(b []byte, kind Kind) (Structure, error) {
	if err := checkAttestSize(b); err != nil {
		return Structure{}, err
	}
	if isVersion1Quote(b) {
		return Structure{}, errVersion1Quote()
	}
	a, err := parseAttest(bytes.Clone(b), uint16(kind))
	if err != nil {
		return Structure{}, err
	}
	s := Structure{
		Kind: kind, Signer: a.signer, ExtraData: a.extraData, Clock: a.clock, FirmwareVersion: a.firmware,
		PCRDigest: a.pcrDigest, Name: a.name, QualifiedName: a.qualifiedName, attest: a,
	}
	for _, sel := range a.selections[:min(a.count, maxBanks)] {
		s.Selections = append(s.Selections, BankSelection{sel.hash, sel.mask})
	}
	return s, nil
}

// CheckSelection compares the selections of a quote with what was asked for.
//
// Errors: tpm2.quote.selection_count, tpm2.pcr.bank,
// tpm2.quote.selection_duplicate, tpm2.quote.select_size, tpm2.quote.selection.
func (s Structure) CheckSelection(bank Bank, want Selection) error {
	if s.attest == nil {
		return errQuoteSelection()
	}
	return s.attest.checkSelection(bank, want)
}

// hierarchies are the permanent handles under which primary keys live (Part 2,
// 7.4), with the names that people know them by.
var hierarchies = []struct {
	handle uint32
	name   string
}{
	{rhEndorsement, "endorsement"},
	{0x40000001, "owner"},
	{0x4000000c, "platform"},
	{0x40000007, "null"},
}

// Hierarchy names the hierarchy in which the AK, as a primary key, has the given
// qualified name; "" where it is not that of a primary key, or where the AK has
// no Name.
func (a AK) Hierarchy(qualifiedName []byte) string {
	if a.name == nil {
		return ""
	}
	for _, h := range hierarchies {
		if bytes.Equal(qualifiedUnder(h.handle, a.name), qualifiedName) {
			return h.name
		}
	}
	return ""
}

// NameOf returns the Name of a public area with nameAlg SHA-256: nameAlg and
// SHA-256 of the bytes. It says nothing about whether they are a public area.
func NameOf(public []byte) ([]byte, error) {
	if len(public) > maxPublic {
		return nil, reason.New(reason.RequestTooLarge, "TPMT_PUBLIC is longer than 1024 bytes")
	}
	return nameOf(public), nil
}

// Signed verifies that ak signed the bytes of an attestation, and nothing else
// about it.
//
// Errors: request.too_large, tpm2.signature.scheme, .hash, .encoding, .invalid.
func Signed(ak AK, attest, signature []byte) error {
	if err := checkAttestSize(attest); err != nil {
		return err
	}
	return verifySignature(&ak, attest, signature)
}

// PublicArea is what a TPMT_PUBLIC of an asymmetric key says, for people. Nothing
// of it is judged: ParseAK and ParseEK do.
type PublicArea struct {
	Type, NameAlg uint16 // TPM_ALG_ID
	Attributes    uint32 // TPMA_OBJECT
	Policy        []byte
	Scheme, Hash  uint16 // 0x0010 is NULL
	Symmetric     uint16
	SymmetricBits uint16
	Bits          uint16 // RSA
	Exponent      uint32 // RSA: 0 means 65537
	Curve         uint16 // ECC
	X, Y          []byte // X is the modulus of an RSA key
}

// ReadPublic decodes a TPMT_PUBLIC as strictly as ParseAK does. Slices are the
// caller's.
//
// Errors: request.too_large, tpm2.version, tpm2.ak.encoding, tpm2.ak.parameters
// (an algorithm that is not known here).
func ReadPublic(public []byte) (PublicArea, error) {
	p, err := parsePublic(bytes.Clone(public))
	if err != nil {
		return PublicArea{}, akError(err)
	}
	return PublicArea{
		Type: p.kind, NameAlg: p.nameAlg, Attributes: p.attributes, Policy: p.policy, Scheme: p.scheme.alg, Hash: p.scheme.hash,
		Symmetric: p.sym.alg, SymmetricBits: p.sym.bits, Bits: p.bits, Exponent: p.exponent, Curve: p.curve, X: p.x, Y: p.y,
	}, nil
}
