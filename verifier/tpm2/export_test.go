package tpm2

// Decoded is what parsePublic read, for writing it again.
type Decoded struct {
	Kind, NameAlg uint16
	Attributes    uint32
	Policy        []byte
	Sym           [3]uint16
	Scheme, KDF   [3]uint16
	Bits, Curve   uint16
	Exponent      uint32
	X, Y          []byte
}

// Decode exposes the decoder of TPMT_PUBLIC to the fuzz target.
func Decode(b []byte) (Decoded, error) {
	p, err := parsePublic(b)
	return Decoded{
		p.kind, p.nameAlg, p.attributes, p.policy,
		[3]uint16{p.sym.alg, p.sym.bits, p.sym.mode},
		[3]uint16{p.scheme.alg, p.scheme.hash, p.scheme.count},
		[3]uint16{p.kdf.alg, p.kdf.hash, p.kdf.count},
		p.bits, p.curve, p.exponent, p.x, p.y,
	}, err
}

// DecodedSelection is one TPMS_PCR_SELECTION.
type DecodedSelection struct {
	Hash uint16
	Mask []byte
}

// DecodedAttest is what parseAttest read, for writing it again.
type DecodedAttest struct {
	Magic               uint32
	Kind                uint16
	Signer, Extra       []byte
	Clock               Clock
	Firmware            uint64
	Count               uint32
	Selections          []DecodedSelection
	Digest              []byte
	Name, QualifiedName []byte
}

// DecodeAttest exposes the decoder of TPMS_ATTEST to tests.
func DecodeAttest(b []byte) (DecodedAttest, error) {
	kind := uint16(typeQuote)
	if len(b) >= 6 {
		kind = uint16(b[4])<<8 | uint16(b[5])
	}
	a, err := parseAttest(b, kind)
	d := DecodedAttest{
		Magic: a.magic, Kind: a.kind, Signer: a.signer, Extra: a.extraData, Clock: a.clock, Firmware: a.firmware,
		Count: a.count, Digest: a.pcrDigest, Name: a.name, QualifiedName: a.qualifiedName,
	}
	for _, s := range a.selections[:min(a.count, maxBanks)] {
		d.Selections = append(d.Selections, DecodedSelection{s.hash, s.mask})
	}
	return d, err
}

// DecodeSignature exposes the decoder of TPMT_SIGNATURE to tests.
func DecodeSignature(b []byte, scheme uint16) (first, second []byte, err error) {
	s, err := parseSignature(b, scheme)
	return s.first, s.second, err
}

// ParseOnly decodes a TPMS_ATTEST and keeps nothing: what the benchmark measures.
func ParseOnly(b []byte) error {
	_, err := parseAttest(b, typeQuote)
	return err
}
