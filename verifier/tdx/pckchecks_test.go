package tdx_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"slices"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

func pemBlock(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

// withChain puts another chain into a quote of version 4 and keeps its lengths.
func withChain(raw, chain []byte) []byte {
	const data, inner = 632 + 4 + 128 + 2, 632 + 4 + 128 + 6 + 448 + 2 + 32 + 2
	old := binary.LittleEndian.Uint32(raw[inner:])
	out := append(slices.Clone(raw[:inner+4]), chain...)
	for _, at := range []int{632, data, inner} {
		binary.LittleEndian.PutUint32(out[at:], binary.LittleEndian.Uint32(out[at:])-old+uint32(len(chain)))
	}
	return out
}

// member is one of the SGX extension, made by hand.
type member struct {
	arcs  []int
	value []byte
	more  []byte // behind the value
	tag   byte   // 0: SEQUENCE
}

func element(tag byte, parts ...[]byte) []byte {
	der, err := asn1.Marshal(asn1.RawValue{Tag: int(tag & 0x1f), IsCompound: tag&0x20 != 0, Bytes: slices.Concat(parts...)})
	if err != nil {
		panic(err)
	}
	return der
}

func (m member) der() []byte {
	var id []byte
	if m.arcs != nil {
		id, _ = asn1.Marshal(append(asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}, m.arcs...))
	} else {
		id = []byte{5, 0}
	}
	if m.tag == 0 {
		m.tag = 0x30
	}
	return element(m.tag, id, m.value, m.more)
}

// sgx is the extension as its parts; tcb are the members of the one with arc 2.
type sgx struct {
	tcb, rest      []member
	tcbTag, outTag byte
	noTCB          bool
}

func goodSGX() *sgx {
	s := &sgx{tcbTag: 0x30, outTag: 0x30}
	for i := 1; i <= 16; i++ {
		s.tcb = append(s.tcb, member{arcs: []int{2, i}, value: []byte{2, 1, 6}})
	}
	s.tcb = append(s.tcb, member{arcs: []int{2, 17}, value: []byte{2, 1, 11}}, member{arcs: []int{2, 18}, value: element(4, make([]byte, 16))})
	s.rest = []member{
		{arcs: []int{3}, value: []byte{4, 2, 0, 0}},
		{arcs: []int{4}, value: []byte{4, 6, 0xb0, 0xc0, 0x6f, 0, 0, 0}},
	}
	return s
}

func (s *sgx) der() []byte {
	var tcb, all []byte
	for _, m := range s.tcb {
		tcb = append(tcb, m.der()...)
	}
	if !s.noTCB {
		all = member{arcs: []int{2}, value: element(s.tcbTag, tcb)}.der()
	}
	for _, m := range s.rest {
		all = append(all, m.der()...)
	}
	return element(s.outTag, all)
}

// TestSGXExtensionChecks: two readers of the extension must not find two platforms,
// and what is absent must not read as zero.
func TestSGXExtensionChecks(t *testing.T) {
	null := []byte{5, 0}
	also := func(m member) func(*sgx) { return func(s *sgx) { s.rest = append(s.rest, m) } }
	tcb := func(m member) func(*sgx) { return func(s *sgx) { s.tcb = append(s.tcb, m) } }
	for name, tc := range map[string]struct {
		change func(*sgx)
		want   reason.Code
	}{
		"good":                           {func(*sgx) {}, ""},
		"a member that nobody knows":     {also(member{arcs: []int{9}, value: null}), ""},
		"a SET of members":               {func(s *sgx) { s.outTag = 0x31 }, reason.TDXUntrusted},
		"the PCE id twice":               {also(member{arcs: []int{3}, value: []byte{4, 2, 0, 0}}), reason.TDXUntrusted},
		"more behind the PCE id":         {func(s *sgx) { s.rest[0].more = null }, reason.TDXUntrusted},
		"another PCE id":                 {func(s *sgx) { s.rest[0].value = []byte{4, 2, 0, 1} }, reason.TDXCollateralMismatch},
		"a PCE id of one byte":           {func(s *sgx) { s.rest[0].value = []byte{4, 1, 0} }, reason.TDXUntrusted},
		"a PCE id that is text":          {func(s *sgx) { s.rest[0].value = []byte{0x0c, 2, 0, 0} }, reason.TDXUntrusted},
		"no PCE id":                      {func(s *sgx) { s.rest = s.rest[1:] }, reason.TDXUntrusted},
		"no fmspc":                       {func(s *sgx) { s.rest = s.rest[:1] }, reason.TDXUntrusted},
		"no TCB":                         {func(s *sgx) { s.noTCB = true }, reason.TDXUntrusted},
		"a member in a SET":              {also(member{arcs: []int{9}, value: null, tag: 0x31}), reason.TDXUntrusted},
		"a member without an identifier": {also(member{value: null}), reason.TDXUntrusted},
		"a member without a value":       {also(member{arcs: []int{9}}), reason.TDXUntrusted},
		"more behind an unknown member":  {also(member{arcs: []int{9}, value: null, more: null}), reason.TDXUntrusted},
		"a SET of components":            {func(s *sgx) { s.tcbTag = 0x31 }, reason.TDXUntrusted},
		"more behind a component":        {func(s *sgx) { s.tcb[0].more = null }, reason.TDXUntrusted},
		"the TCB among its components":   {tcb(member{arcs: []int{2}, value: null}), reason.TDXUntrusted},
		"a component one arc too deep":   {func(s *sgx) { s.tcb[0].arcs = []int{2, 1, 1} }, reason.TDXUntrusted},
		"a component of another branch":  {func(s *sgx) { s.tcb[0].arcs = []int{3, 1} }, reason.TDXUntrusted},
		"component 0":                    {tcb(member{arcs: []int{2, 0}, value: []byte{2, 1, 6}}), reason.TDXUntrusted},
		"component 40":                   {tcb(member{arcs: []int{2, 40}, value: element(4, make([]byte, 16))}), reason.TDXUntrusted},
		"a component twice":              {tcb(member{arcs: []int{2, 1}, value: []byte{2, 1, 9}}), reason.TDXUntrusted},
		"a component of two bytes":       {func(s *sgx) { s.tcb[0].value = []byte{2, 2, 1, 6} }, reason.TDXUntrusted},
		"a component that is NULL":       {func(s *sgx) { s.tcb[0].value = null }, reason.TDXUntrusted},
		"a CPU SVN of fifteen bytes":     {func(s *sgx) { s.tcb[17].value = element(4, make([]byte, 15)) }, reason.TDXUntrusted},
	} {
		row{name, func(l *lab) {
			s := goodSGX()
			tc.change(s)
			l.pki.IssuePCK(func(c *x509.Certificate) { c.ExtraExtensions[0].Value = s.der() })
		}, tc.want}.run(t)
	}
}

// TestPCKOfAnotherKey: what Intel's hardware signs with is a key on P-256.
func TestPCKOfAnotherKey(t *testing.T) {
	strong, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, pub := range map[string]crypto.PublicKey{"P-384": strong.Public(), "RSA": rsaKey.Public()} {
		row{name, func(l *lab) {
			l.raw = func(b []byte) []byte { return withChain(b, l.pki.Chain(pub, true)) }
		}, reason.TDXUntrusted}.run(t)
	}
	row{"the same chain put in anew", func(l *lab) {
		l.raw = func(b []byte) []byte { return withChain(b, slices.Clone(b[len(b)-int(chainLength(b)):])) }
	}, ""}.run(t)
}

func chainLength(b []byte) uint32 {
	return binary.LittleEndian.Uint32(b[632+4+128+6+448+2+32+2:])
}
