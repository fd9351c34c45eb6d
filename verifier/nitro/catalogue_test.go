package nitro_test

import (
	"bytes"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/nitro"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// forgery is a good document of the test PKI with one thing changed, and the code
// that refuses it.
type forgery struct {
	name string
	want reason.Code
	make func(f *documenttest.NitroFields)     // before it is signed
	edit func(t *testing.T, raw []byte) []byte // afterwards
	lab  func(t *testing.T, l *lab)
	ask  func(e *nitro.Expectation)
	now  time.Duration // of the verification, from noon
}

// protectedAs replaces the protected header.
func protectedAs(h map[any]any) func(*documenttest.NitroFields) {
	return func(f *documenttest.NitroFields) {
		f.Message = func(m *documenttest.Sign1) { m.Protected = h }
	}
}

// contentAs changes what is signed.
func contentAs(change func(c map[any]any)) func(*documenttest.NitroFields) {
	return func(f *documenttest.NitroFields) { f.Content = change }
}

// twice writes the member of a map a second time. It stands at the end of the
// bytes, and the head of the map counts one more.
func twice(name string) func(*documenttest.NitroFields) {
	return func(f *documenttest.NitroFields) {
		var again []byte
		f.Content = func(c map[any]any) { again = append(documenttest.Encode(name), documenttest.Encode(c[name])...) }
		f.Payload = func(p []byte) []byte { return append(append([]byte{p[0] + 1}, p[1:]...), again...) }
	}
}

func flip(at func(raw []byte) int) func(*testing.T, []byte) []byte {
	return func(_ *testing.T, raw []byte) []byte {
		out := bytes.Clone(raw)
		out[at(raw)] ^= 1
		return out
	}
}

func replaced(raw []byte) func(*testing.T, []byte) []byte {
	return func(*testing.T, []byte) []byte { return raw }
}

func forgeries() []forgery {
	type fields = documenttest.NitroFields
	return []forgery{
		{name: "row 01 signature flipped", want: reason.COSESignature, edit: flip(func(raw []byte) int { return len(raw) - 1 })},
		{name: "row 02 payload flipped", want: reason.COSESignature, edit: flip(func(raw []byte) int { return bytes.Index(raw, bytes.Repeat([]byte{0xa3}, 48)) })},
		{name: "row 03 algorithm ES256", want: reason.COSEAlg, make: protectedAs(map[any]any{1: -7})},
		{name: "row 03 algorithm ES512", want: reason.COSEAlg, make: protectedAs(map[any]any{1: -36})},
		{name: "row 03 algorithm EdDSA", want: reason.COSEAlg, make: protectedAs(map[any]any{1: -8})},
		{name: "row 03 algorithm HMAC", want: reason.COSEAlg, make: protectedAs(map[any]any{1: 5})},
		{name: "row 03 algorithm in text", want: reason.COSEAlg, make: protectedAs(map[any]any{1: "ES384"})},
		{name: "row 04 algorithm missing", want: reason.COSEAlg, make: protectedAs(map[any]any{})},
		{name: "row 05 algorithm unprotected only", want: reason.COSEAlg, make: func(f *fields) {
			f.Message = func(m *documenttest.Sign1) { m.Protected, m.Unprotected = map[any]any{}, map[any]any{1: -35} }
		}},
		{name: "row 05 algorithm in both headers", want: reason.COSEAlg, make: func(f *fields) {
			f.Message = func(m *documenttest.Sign1) { m.Unprotected = map[any]any{1: -35} }
		}},
		{name: "row 06 critical header", want: reason.COSECrit, make: protectedAs(map[any]any{1: -35, 2: []any{"x"}, "x": 1})},
		{name: "row 06 critical header unprotected", want: reason.COSECrit, make: func(f *fields) {
			f.Message = func(m *documenttest.Sign1) { m.Unprotected = map[any]any{2: []any{"x"}, "x": 1} }
		}},
		{name: "row 07 trailing byte", want: reason.CBORTrailing, edit: func(_ *testing.T, raw []byte) []byte { return append(raw, 0) }},
		{name: "row 07 trailing byte in the payload", want: reason.CBORTrailing, make: func(f *fields) {
			f.Payload = func(p []byte) []byte { return append(p, 0) }
		}},
		{name: "row 08 truncated", want: reason.CBORTruncated, edit: func(_ *testing.T, raw []byte) []byte { return raw[:len(raw)-1] }},
		{name: "row 09 tag 98", want: reason.COSETag, edit: func(_ *testing.T, raw []byte) []byte { return append([]byte{0xd8, 98}, raw...) }},
		{name: "row 09 tag 18 twice", want: reason.COSETag, edit: func(_ *testing.T, raw []byte) []byte { return append([]byte{0xd2, 0xd2}, raw...) }},
		{name: "row 09 array of three", want: reason.COSETag, edit: replaced([]byte{0x83, 0x40, 0xa0, 0x40})},
		{name: "row 09 content outside", want: reason.COSETag, edit: replaced([]byte{0x84, 0x40, 0xa0, 0xf6, 0x40})},
		{name: "row 10 nonce twice", want: reason.CBORDuplicateKey, make: twice("nonce")},
		{name: "row 11 pcrs twice", want: reason.CBORDuplicateKey, make: twice("pcrs")},
		{name: "row 12 map of 49 entries", want: reason.CBORLimit, make: contentAs(func(c map[any]any) {
			for i := range 49 - len(c) {
				c[i] = i
			}
		})},
		{name: "row 12 map of 49 PCRs", want: reason.CBORLimit, make: contentAs(func(c map[any]any) {
			pcrs := map[any]any{}
			for i := range 49 {
				pcrs[i] = make([]byte, 48)
			}
			c["pcrs"] = pcrs
		})},
		{name: "row 13 nested 200 deep", want: reason.CBORLimit, edit: replaced(append(bytes.Repeat([]byte{0x81}, 200), 0))},
		{name: "row 13 payload nested 200 deep", want: reason.CBORLimit, make: func(f *fields) {
			f.Payload = func([]byte) []byte { return append(bytes.Repeat([]byte{0x81}, 200), 0) }
		}},
		{name: "row 14 array of 2^40", want: reason.CBORLimit, edit: replaced([]byte{0x9b, 0, 0, 1, 0, 0, 0, 0, 0})},
		{name: "row 14 string of 2^40", want: reason.CBORLimit, edit: replaced([]byte{0x84, 0x5b, 0, 0, 1, 0, 0, 0, 0, 0})},
		{name: "row 15 own root of the same name", want: reason.NitroUntrusted, lab: func(t *testing.T, l *lab) { l.trust = newLab(t).trust }},
		{name: "row 15 no root configured", want: reason.NitroUntrusted, lab: func(_ *testing.T, l *lab) { l.trust = nitro.Trust{} }},
		{name: "row 16 PCR0 zero (debug)", want: reason.NitroDebug, make: func(f *fields) { f.PCRs = map[int][]byte{0: make([]byte, 48)} }},
		{name: "row 16 PCR0 to PCR2 zero (debug)", want: reason.NitroDebug, make: func(f *fields) {
			f.PCRs = map[int][]byte{0: make([]byte, 48), 1: make([]byte, 48), 2: make([]byte, 48)}
		}},
		{name: "row 16 PCR1 zero (debug)", want: reason.NitroDebug, make: func(f *fields) { f.PCRs = map[int][]byte{1: make([]byte, 48)} }},
		{name: "row 16 PCR2 zero (debug)", want: reason.NitroDebug, make: func(f *fields) { f.PCRs = map[int][]byte{2: make([]byte, 48)} }},
		{name: "row 16 PCR0 absent", want: reason.NitroPCR, make: func(f *fields) { f.PCRs = map[int][]byte{0: nil} }},
		{name: "row 17 PCR of 32 bytes", want: reason.NitroPCR, make: func(f *fields) { f.PCRs = map[int][]byte{8: make([]byte, 32)} }},
		{name: "row 18 PCR index 4000", want: reason.NitroPCR, make: func(f *fields) { f.PCRs = map[int][]byte{4000: make([]byte, 48)} }},
		{name: "row 18 PCR index 32", want: reason.NitroPCR, make: func(f *fields) { f.PCRs = map[int][]byte{32: make([]byte, 48)} }},
		{name: "row 18 PCR index -1", want: reason.NitroPCR, make: func(f *fields) { f.PCRs = map[int][]byte{-1: make([]byte, 48)} }},
		{name: "row 19 digest SHA256", want: reason.NitroDigest, make: contentAs(func(c map[any]any) { c["digest"] = "SHA256" })},
		{name: "row 19 digest missing", want: reason.NitroDigest, make: contentAs(func(c map[any]any) { delete(c, "digest") })},
		{name: "row 20 nonce missing", want: reason.NitroNonceMismatch, make: contentAs(func(c map[any]any) { delete(c, "nonce") })},
		{name: "row 20 nonce null", want: reason.NitroNonceMismatch, make: contentAs(func(c map[any]any) { c["nonce"] = nil })},
		{name: "row 20 nonce of another challenge", want: reason.NitroNonceMismatch, ask: func(e *nitro.Expectation) { e.Nonce = bytes.Repeat([]byte{1}, 32) }},
		{name: "row 20 nonce with a byte more", want: reason.NitroNonceMismatch, make: func(f *fields) { f.Nonce = append(bytes.Clone(nonce), 0) }},
		{name: "row 21 timestamp 20 minutes ahead", want: reason.NitroTimestamp, make: func(f *fields) { f.At = noon.Add(20 * time.Minute) }},
		{name: "row 22 timestamp 2 hours old", want: reason.NitroTimestamp, make: func(f *fields) { f.At = noon.Add(-2 * time.Hour) }},
		{name: "row 22 timestamp before the leaf", want: reason.NitroTimestamp, make: func(f *fields) { f.At = noon.Add(-31 * time.Second) }},
		{name: "row 23 stale, judged three hours later", want: reason.NitroValidity, now: 3 * time.Hour},
		{name: "row 23 stale, judged six minutes later", want: reason.NitroTimestamp, now: 6 * time.Minute},
		{name: "row 24 judged before it was made", want: reason.NitroValidity, now: -10 * time.Minute},
		{name: "row 25 leaf is a CA", want: reason.NitroLeaf, make: func(f *fields) {
			f.Leaf = (&documenttest.NitroPKI{}).Authority(documenttest.NitroModule+".us-east-1.aws", noon.Add(-time.Minute), noon.Add(time.Hour), 0)
		}},
		{name: "row 26 bundle empty", want: reason.NitroCabundle, make: contentAs(func(c map[any]any) { c["cabundle"] = []any{} })},
		{name: "row 27 user_data of 1025 bytes", want: reason.NitroFields, make: func(f *fields) { f.UserData = make([]byte, 1025) }},
		{name: "row 27 nonce of 1025 bytes", want: reason.NitroFields, make: func(f *fields) { f.Nonce = make([]byte, 1025) }},
		{name: "row 27 public_key of 1025 bytes", want: reason.NitroFields, make: func(f *fields) { f.PublicKey = make([]byte, 1025) }},
		{name: "row 28 leaf of P-521", want: reason.NitroLeaf, make: func(f *fields) {
			f.Curve = elliptic.P521()
			f.Message = func(m *documenttest.Sign1) { m.Protected, m.Signature = map[any]any{1: -35}, make([]byte, 96) }
		}},
		{name: "row 29 leaf of P-256 with ES384", want: reason.NitroLeaf, make: func(f *fields) {
			f.Curve = elliptic.P256()
			f.Message = func(m *documenttest.Sign1) { m.Protected = map[any]any{1: -35} }
		}},
		{name: "row 30 both maps of PCRs", want: reason.NitroType, make: contentAs(func(c map[any]any) { c["nitrotpm_pcrs"] = c["pcrs"] })},
		{name: "row 31 enclave's document as an instance's", want: reason.NitroType, ask: func(e *nitro.Expectation) { e.Type = nitro.Instance }},
		{name: "row 31 instance's document as an enclave's", want: reason.NitroType, make: func(f *fields) { f.Instance = true }, ask: func(e *nitro.Expectation) { e.Type = nitro.Enclave }},
	}
}

// TestCatalogueTestPKI judges rows 1 to 31 of the catalogue of bad documents under
// a PKI of the shape of AWS's.
func TestCatalogueTestPKI(t *testing.T) {
	shared := newLab(t)
	for _, c := range append(forgeries(), moreForgeries()...) {
		t.Run(c.name, func(t *testing.T) { c.judge(t, shared) })
	}
}

func (c forgery) judge(t *testing.T, l lab) {
	f := documenttest.NitroFields{Nonce: nonce}
	if _, err := nitro.Verify(l.document(t, f), wanted(f), l.trust, noon); err != nil {
		t.Fatalf("the good document is refused: %v", err)
	}
	if c.lab != nil {
		c.lab(t, &l)
	}
	if c.make != nil {
		c.make(&f)
	}
	raw, want := l.document(t, f), wanted(f)
	if c.edit != nil {
		raw = c.edit(t, raw)
	}
	if c.ask != nil {
		c.ask(&want)
	}
	d, err := nitro.Verify(raw, want, l.trust, noon.Add(c.now))
	if got := code(d, err); got != c.want {
		t.Errorf("code %q, want %q (%v)", got, c.want, err)
	}
}

// code is that of the refusal, or of what default policy refuses.
func code(d nitro.Document, err error) reason.Code {
	if err != nil {
		return reason.Of(err)
	}
	if f := d.Facts(); len(f.Hazards) > 0 {
		return f.Hazards[0].Code
	}
	return ""
}

// moreForgeries are cases of the same kinds that the catalogue does not count.
func moreForgeries() []forgery {
	type fields = documenttest.NitroFields
	text := func(n int) string { return string(bytes.Repeat([]byte{'a'}, n)) }
	return []forgery{
		{name: "nothing", want: reason.CBORTruncated, edit: replaced(nil)},
		{name: "larger than the limit", want: reason.RequestTooLarge, edit: replaced(make([]byte, nitro.MaxDocument+1))},
		{name: "no certificate", want: reason.NitroFields, make: contentAs(func(c map[any]any) { delete(c, "certificate") })},
		{name: "no bundle", want: reason.NitroFields, make: contentAs(func(c map[any]any) { delete(c, "cabundle") })},
		{name: "certificate in text", want: reason.CBORMalformed, make: contentAs(func(c map[any]any) { c["certificate"] = "x" })},
		{name: "bundle as a map", want: reason.CBORMalformed, make: contentAs(func(c map[any]any) { c["cabundle"] = map[any]any{} })},
		{name: "no certificate at all in certificate", want: reason.NitroLeaf, make: contentAs(func(c map[any]any) { c["certificate"] = []byte{0x30, 0} })},
		{name: "certificate of 2049 bytes", want: reason.NitroLeaf, make: contentAs(func(c map[any]any) { c["certificate"] = make([]byte, 2049) })},
		{name: "text in the bundle", want: reason.NitroCabundle, make: contentAs(func(c map[any]any) { c["cabundle"] = []any{"x"} })},
		{name: "rubbish in the bundle", want: reason.NitroCabundle, make: contentAs(func(c map[any]any) { c["cabundle"] = []any{[]byte{1}} })},
		{name: "bundle of nine", want: reason.NitroCabundle, make: contentAs(func(c map[any]any) {
			root := c["cabundle"].([]any)[0]
			c["cabundle"] = []any{root, root, root, root, root, root, root, root, root}
		})},
		{name: "bundle leaf first", want: reason.NitroUntrusted, make: contentAs(func(c map[any]any) {
			b := c["cabundle"].([]any)
			c["cabundle"] = []any{b[3], b[2], b[1], b[0]}
		})},
		{name: "bundle with a gap", want: reason.NitroUntrusted, make: contentAs(func(c map[any]any) {
			b := c["cabundle"].([]any)
			c["cabundle"] = []any{b[0], b[1], b[3]}
		})},
		{name: "unknown member", want: reason.NitroFields, make: contentAs(func(c map[any]any) { c["pcr"] = 1 })},
		{name: "member of another case", want: reason.NitroFields, make: contentAs(func(c map[any]any) { c["NONCE"] = nonce })},
		{name: "no PCRs", want: reason.NitroFields, make: contentAs(func(c map[any]any) { delete(c, "pcrs") })},
		{name: "PCRs as an array", want: reason.NitroFields, make: contentAs(func(c map[any]any) { c["pcrs"] = []any{} })},
		{name: "PCR with a name", want: reason.NitroPCR, make: contentAs(func(c map[any]any) { c["pcrs"].(map[any]any)["0"] = make([]byte, 48) })},
		{name: "PCR in text", want: reason.NitroPCR, make: contentAs(func(c map[any]any) { c["pcrs"].(map[any]any)[8] = text(48) })},
		{name: "no module_id", want: reason.NitroFields, make: contentAs(func(c map[any]any) { delete(c, "module_id") })},
		{name: "module_id in bytes", want: reason.CBORMalformed, make: contentAs(func(c map[any]any) { c["module_id"] = []byte("i-0") })},
		{name: "module_id of an instance", want: reason.NitroFields, make: contentAs(func(c map[any]any) { c["module_id"] = documenttest.NitroTPM })},
		{name: "module_id without an enclave", want: reason.NitroFields, make: contentAs(func(c map[any]any) { c["module_id"] = documenttest.NitroInstance })},
		{name: "module_id with a slash", want: reason.NitroFields, make: func(f *fields) { f.Module = "i-01234567/89-enc01" }},
		{name: "module_id of another module", want: reason.NitroLeaf, make: contentAs(func(c map[any]any) { c["module_id"] = documenttest.NitroModule + "0" })},
		{name: "certificate without a region", want: reason.NitroLeaf, make: func(f *fields) { f.Leaf = named(documenttest.NitroModule + ".aws") }},
		{name: "certificate of another domain", want: reason.NitroLeaf, make: func(f *fields) { f.Leaf = named(documenttest.NitroModule + ".us-east-1.evil") }},
		{name: "no timestamp", want: reason.NitroFields, make: contentAs(func(c map[any]any) { delete(c, "timestamp") })},
		{name: "timestamp 0", want: reason.NitroFields, make: contentAs(func(c map[any]any) { c["timestamp"] = 0 })},
		{name: "timestamp 2^63", want: reason.NitroFields, make: contentAs(func(c map[any]any) { c["timestamp"] = uint64(1) << 63 })},
		{name: "timestamp in seconds", want: reason.NitroTimestamp, make: contentAs(func(c map[any]any) { c["timestamp"] = noon.Unix() })},
		{name: "timestamp below zero", want: reason.CBORMalformed, make: contentAs(func(c map[any]any) { c["timestamp"] = -1 })},
		{name: "timestamp 61 s ahead", want: reason.NitroTimestamp, make: func(f *fields) { f.At = noon.Add(61 * time.Second) }},
		{name: "nonce in text", want: reason.CBORMalformed, make: contentAs(func(c map[any]any) { c["nonce"] = text(32) })},
		{name: "nonce as numbers", want: reason.CBORMalformed, make: contentAs(func(c map[any]any) { c["nonce"] = []any{1, 2} })},
		{name: "payload is no map", want: reason.CBORMalformed, make: func(f *fields) { f.Payload = func([]byte) []byte { return []byte{0x80} } }},
		{name: "tag in the payload", want: reason.CBORMalformed, make: func(f *fields) {
			f.Payload = func(p []byte) []byte { return append([]byte{0xd8, 55}, p...) }
		}},
		{name: "signature of zeros", want: reason.COSESignature, make: signatureAs(make([]byte, 96))},
		{name: "signature with a byte less", want: reason.COSESignature, make: signatureAs(make([]byte, 95))},
		{name: "leaf may not sign", want: reason.NitroLeaf, make: func(f *fields) {
			f.Leaf = named(documenttest.NitroModule + ".us-east-1.aws")
			f.Leaf.KeyUsage = x509.KeyUsageKeyAgreement
		}},
		{name: "leaf that signs certificates", want: reason.NitroLeaf, make: func(f *fields) {
			f.Leaf = named(documenttest.NitroModule + ".us-east-1.aws")
			f.Leaf.KeyUsage |= x509.KeyUsageCertSign
		}},
		{name: "zone expired", want: reason.NitroValidity, lab: rebuilt(func(c *x509.Certificate, i int) {
			if i == 2 {
				c.NotAfter = noon.Add(-time.Second)
			}
		})},
		{name: "path longer than a CA allows", want: reason.NitroUntrusted, lab: rebuilt(func(c *x509.Certificate, i int) {
			if i == 1 {
				c.MaxPathLen, c.MaxPathLenZero = 0, true
			}
		})},
		{name: "issuer is no CA", want: reason.NitroUntrusted, lab: rebuilt(func(c *x509.Certificate, i int) {
			if i == 2 {
				c.IsCA, c.MaxPathLen, c.KeyUsage = false, 0, x509.KeyUsageDigitalSignature
			}
		})},
		{name: "issuer with names constrained", want: reason.NitroUntrusted, lab: rebuilt(func(c *x509.Certificate, i int) {
			if i == 2 {
				c.PermittedDNSDomains = []string{"example.org"}
			}
		})},
		{name: "issuer signed with SHA-256", want: reason.NitroUntrusted, lab: rebuilt(func(c *x509.Certificate, i int) {
			if i == 2 {
				c.SignatureAlgorithm = x509.ECDSAWithSHA256
			}
		})},
		{name: "issuer signed by nobody", want: reason.NitroUntrusted, lab: func(_ *testing.T, l *lab) {
			c := *l.Issuer[1].Certificate
			c.Raw = bytes.Clone(c.Raw)
			c.Raw[len(c.Raw)-1] ^= 1
			p := *l.NitroPKI
			p.Issuer = append([]*documenttest.Certified{}, l.Issuer...)
			p.Issuer[1] = &documenttest.Certified{Certificate: &c, Key: l.Issuer[1].Key}
			l.NitroPKI = &p
		}},
	}
}

func signatureAs(b []byte) func(*documenttest.NitroFields) {
	return func(f *documenttest.NitroFields) {
		f.Message = func(m *documenttest.Sign1) { m.Signature = b }
	}
}

// named is the template of a leaf of another name.
func named(cn string) *x509.Certificate {
	t := (&documenttest.NitroPKI{Now: noon}).Leaf("")
	t.Subject.CommonName = cn
	return t
}

// rebuilt makes the PKI again with one CA changed.
func rebuilt(change func(c *x509.Certificate, i int)) func(*testing.T, *lab) {
	return func(t *testing.T, l *lab) {
		p := &documenttest.NitroPKI{Now: noon}
		for i, c := range l.Issuer {
			template := p.Authority(c.Subject.CommonName, c.NotBefore, c.NotAfter, c.MaxPathLen)
			change(template, i)
			must(t, p.Add(template))
		}
		*l = lab{p, trusting(t, p)}
	}
}

// TestAnyFlippedBit: no bit of a document can be changed. Bits of what nobody
// signs, heads of the outer array, lead to another encoding of the same message at
// most, so nothing but the unprotected header may differ.
func TestAnyFlippedBit(t *testing.T) {
	l := newLab(t)
	raw := l.document(t, documenttest.NitroFields{Nonce: nonce})
	at := make([]byte, 2)
	for range 60 {
		_, err := rand.Read(at)
		must(t, err)
		out := bytes.Clone(raw)
		i := (int(at[0])<<8 | int(at[1])) % len(out)
		out[i] ^= 1 << (at[0] & 7)
		if _, err := nitro.Verify(out, nitro.Expectation{Nonce: nonce}, l.trust, noon); err == nil {
			t.Errorf("accepted with bit %d of byte %d changed", at[0]&7, i)
		}
	}
}
