package conformance_test

import (
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/conformance"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/ima"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// odd are files that are not what a row calls them.
func odd(m *machine) {
	m.files["junk"], m.files["none"] = "junk", ""
	m.files["badcert"] = pemOf("CERTIFICATE", []byte{0x30, 0})
	m.files["sized"] = "\x00\x10\x00\x23" + strings.Repeat("x", 40)
}

// TestRowsThatCannotBeJudged: what a row names and nobody can read makes it
// broken in each kind, with the name of what is missing.
func TestRowsThatCannotBeJudged(t *testing.T) {
	m := newMachine(t)
	odd(m)
	m.files["ak.pem"], m.files["root.pem"] = pemOf("CERTIFICATE", akCertificate(t, m.tpm.AK)), string(evidencetest.NewMaker(t).PEM())
	const at = "time=2026-11-20T12:00:00Z"
	const certify = "ak=ak.pub;sig=certify.sig;pub=key.pub;qualifying=" + nonce
	but := func(from, to string) string { return strings.Replace(certify, from, to, 1) }
	for _, c := range []struct{ kind, path, context, want string }{
		{"eventlog", "gone", "container=go-attestation", "gone does not exist"},
		{"eventlog", "junk", "container=go-attestation", "not the JSON of go-attestation"},
		{"eventlog", "log", "pcrs=gone", "gone does not exist"},
		{"quote", "gone", "container=go-attestation", "gone does not exist"},
		{"quote", "gone", m.context, "gone does not exist"},
		{"quote", "quote", m.with("sig=gone"), "gone does not exist"},
		{"quote", "quote", m.with("pcrs=gone"), "gone does not exist"},
		{"quote", "quote", m.with("log=gone"), "gone does not exist"},
		{"quote", "quote", m.with("bank=sha3"), "bank has to be"},
		{"quote", "quote", m.with("select=zzzzzz"), "six hex digits"},
		{"quote", "quote", m.context + ";pcr.x=00", "pcr.x"},
		{"ekcert", "gone", at, "gone does not exist"},
		{"ekcert", "ak.pem", at + ";roots=gone", "gone does not exist"},
		{"ekcert", "ak.pem", at + ";pub=gone", "gone does not exist"},
		{"akcert", "gone", at, "gone does not exist"},
		{"akcert", "ak.pem", at + ";ak=gone", "gone does not exist"},
		{"ima", "junk", "check=odd", "check=odd"},
		{"ima", "junk", "bank=sha3", "bank has to be"},
		{"ima", "gone", "", "gone does not exist"},
		{"attest", "quote", "type=odd", "type=odd"},
		{"attest", "gone", "", "gone does not exist"},
		{"attest", "quote", "qualifying=xyz", "qualifying is not hex"},
		{"attest", "quote", "bank=sha3", "bank has to be"},
		{"attest", "quote", "select=ff", "six hex digits"},
		{"attest", "certify", "type=certify;qualifying=xyz", "qualifying is not hex"},
		{"attest", "certify", "type=certify;pub=gone", "gone does not exist"},
		{"certify", "certify", but("sig=certify.sig", "sig=gone"), "gone does not exist"},
		{"certify", "certify", but("pub=key.pub", "pub=gone"), "gone does not exist"},
		{"certify", "certify", but("pub=key.pub;", ""), "pub is missing"},
		{"certify", "certify", but(nonce, "xyz"), "qualifying is not hex"},
		{"certify", "certify", but("qualifying="+nonce, "quote=gone"), "gone does not exist"},
		{"certify", "certify", but(";qualifying="+nonce, ""), "neither qualifying nor quote"},
	} {
		r := one(t, strings.Join([]string{c.path, c.kind, "accept", "", c.context}, "\t"), m.files)
		if r.Status != conformance.Broken || !strings.Contains(r.Detail, c.want) {
			t.Errorf("%s %s %s: %+v", c.kind, c.path, c.context, r)
		}
	}
}

// TestFirstRefusalOfARow: the order of the checks decides where several fail.
func TestFirstRefusalOfARow(t *testing.T) {
	m := newMachine(t)
	odd(m)
	maker, p := evidencetest.NewMaker(t), evidencetest.New(t)
	maker.Endorse(t, p)
	m.files["ek.pem"], m.files["root.pem"] = pemOf("CERTIFICATE", p.EKCertificate), string(maker.PEM())
	for _, c := range p.EKChain {
		m.files["ek.pem"] += pemOf("CERTIFICATE", c)
	}
	m.files["ek.der"], m.files["ak.pem"] = string(p.EK.SPKI(t)), pemOf("CERTIFICATE", akCertificate(t, m.tpm.AK))
	blank, _ := m.tpm.Quote(t, evidencetest.Selection, nil)
	m.files["blank"] = string(blank)
	m.files["blank.certify"] = string(m.tpm.Certify(t, evidencetest.NewSVIDKey(t), nil).Attest)
	const at = "time=2026-11-20T12:00:00Z;roots=root.pem"
	const certify = "ak=ak.pub;sig=certify.sig;pub=key.pub;qualifying=" + nonce
	but := func(from, to string) string { return strings.Replace(certify, from, to, 1) }
	for _, c := range []struct{ want, kind, path, context string }{
		{"accept", "ekcert", "ek.pem", at + ";pub=ek.der"},
		{"tpm2.ek.encoding", "ekcert", "ek.pem", at + ";pub=junk"},
		{"tpm2.ek.encoding", "ekcert", "ek.pem", at + ";pub=sized"},
		{"tpm2.ak.cert_encoding", "ekcert", "ek.pem", at + ";pub=badcert"},
		{"tpm2.ak.cert_encoding", "akcert", "junk", at + ";ak=gone"},
		{"accept", "quote", "quote", m.context + ";time=2026-11-20T12:00:00Z"},
		{"accept", "quote", "quote", m.with("pcrs=", "config=signature_only", "log=junk")},
		{"tpm2.ak.encoding", "quote", "quote", m.with("ak=junk", "qualifying=xyz")},
		{"tpm2.ak.encoding", "quote", "quote", m.with("ak=none")},
		{"tpm2.signature.invalid", "quote", "junk", m.with("select=")},
		{"tpm2.ak.encoding", "certify", "certify", "ak=junk;sig=certify.sig"},
		{"tpm2.ak.cert_untrusted", "certify", "certify", but("ak=ak.pub", "ak=ak.pem") + ";" + at},
		{"tpm2.attest.truncated", "certify", "certify", but("qualifying="+nonce, "quote=none")},
		{"tpm2.signature.invalid", "attest", "quote", m.with("sig=certify.sig")},
		{"accept", "attest", "certify", "type=certify"},
		{"tpm2.attest.type", "attest", "quote", "type=certify"},
		{"tpm2.quote.nonce_mismatch", "attest", "blank", "qualifying="},
		{"tpm2.certify.nonce_mismatch", "attest", "blank.certify", "type=certify;qualifying="},
	} {
		m.wants(t, c.want, c.kind, c.path, c.context, nil)
	}
	m.wants(t, "accept", "attest", "certify", "type=certify;pub=sized.pub", map[string]string{
		"sized.pub": "\x00" + string(rune(len(m.files["key.pub"]))) + m.files["key.pub"],
	})
	for pub, want := range map[string]reason.Code{
		"": reason.TPM2CertifyMismatch, "\x00": reason.TPM2CertifyMismatch, "\x12\x34": reason.TPM2CertifyMismatch,
		"junk": reason.TPM2CertifyMismatch, strings.Repeat("x", 9000): reason.RequestTooLarge,
	} {
		m.wants(t, string(want), "attest", "certify", "type=certify;pub=odd", map[string]string{"odd": pub})
	}
	if r := one(t, "x\tima\taccept\t\t", map[string]string{"x": strings.Repeat("x", ima.MaxList)}); r.Got == string(reason.RequestTooLarge) {
		t.Errorf("the largest list: %+v", r)
	}
}

// TestDumpOfOneBank: a dump lists values of several banks and PCRs that a bank
// does not have, and the row's own values count before those of the dump.
func TestDumpOfOneBank(t *testing.T) {
	m := newMachine(t)
	type pcr struct {
		Index  int
		Digest []byte
	}
	pcrs := []pcr{}
	for i, v := range m.tpm.Values(evidencetest.Selection) {
		pcrs = append(pcrs, pcr{i, v})
	}
	pcrs = append(pcrs, pcr{-1, make([]byte, 32)}, pcr{24, make([]byte, 32)}, pcr{0, make([]byte, 20)})
	dump := func(public string) map[string]string {
		b, err := json.Marshal(map[string]any{
			"AK":    map[string]any{"Public": []byte(public)},
			"Quote": map[string]any{"Quote": []byte(m.files["quote"]), "Signature": []byte(m.files["sig"])},
			"Log":   map[string]any{"PCRs": pcrs, "Raw": []byte(m.files["log"])},
		})
		if err != nil {
			t.Fatal(err)
		}
		return map[string]string{"dump": string(b)}
	}
	context := "container=go-attestation;select=" + selectMask + ";qualifying=" + nonce
	good := dump(m.files["ak.pub"])
	m.wants(t, "accept", "quote", "dump", context, good)
	m.wants(t, "tpm2.pcr.digest", "quote", "dump", context+";config=pcrs_all_zero", good)
	m.wants(t, "tpm2.pcr.length", "quote", "dump", context+";pcr.0=00", good)
	r := one(t, "dump\tquote\taccept\t\t"+context, dump("\x00\x10"+m.files["ak.pub"]))
	if r.Got != string(reason.TPM2AKEncoding) || !strings.Contains(r.Detail, "size of the TPM2B_PUBLIC") {
		t.Errorf("%+v", r)
	}
}

// TestAKForms: bytes that look like a key of one form are refused as that form.
func TestAKForms(t *testing.T) {
	const size = "the size of the TPM2B_PUBLIC"
	for _, c := range []struct {
		raw   string
		sized bool
	}{
		{"", false},
		{"\x30", false},
		{"\x00\x05\x00\x01", true},
		{"\x00\x05\x00\x23", true},
		{"\x00\x05\x00", false},
		{"\x00\x10\x00\x01xxxx", true},
		{"\x00\x10\x00\x23xxxx", true},
		{"\x00\x01\x00\x01xxxx", false},
		{"\x00\x23\x00\x23xxxx", false},
		{"\x00\x10\x00\x24xxxx", false},
		{"junk", false},
	} {
		_, err := conformance.ReadAK([]byte(c.raw))
		if err == nil || strings.Contains(err.Error(), size) != c.sized {
			t.Errorf("%q: %v", c.raw, err)
		}
	}
}

// TestFactsAreOfAcceptedCases: a refusal has none, and a wrong acceptance is told
// as such and not by the facts beside it.
func TestFactsAreOfAcceptedCases(t *testing.T) {
	log := string(build.Machine{}.Log().Bytes())
	files := map[string]string{"log": log, "cut": log[:len(log)-1]}
	if r := one(t, "cut\teventlog\treject\teventlog.truncated\tcheck=secure_boot;secure_boot=on", files); r.Status != conformance.Same || len(r.Facts) != 0 {
		t.Errorf("%+v", r)
	}
	if r := one(t, "log\teventlog\treject\teventlog.truncated\tcheck=secure_boot;secure_boot=off", files); r.Status != conformance.Differs || len(r.Facts) != 0 {
		t.Errorf("%+v", r)
	}
}

// TestManifestEdges: what lies just outside of a manifest's form.
func TestManifestEdges(t *testing.T) {
	nine := strings.TrimSuffix(header, "\n") + "\twhat\tsource\tcommit\tlicense\n"
	if rows, err := conformance.ParseManifest([]byte(nine + "a\tquote\taccept\t\t\t\t\t\t\n")); err != nil || len(rows) != 1 || rows[0].Sum != "" {
		t.Errorf("up to the column before sha256: %+v, %v", rows, err)
	}
	twelve := strings.TrimSuffix(nine, "\n") + "\tsha256\tnote\tmore\n"
	for manifest, want := range map[string]string{
		header + ".\tquote\taccept\t\t\n":      "path has to lie below",
		header + "a\tquote\taccept\t\t=x\n":    "context is not key=value",
		header + "a\tquote\taccept\t\ta=b;;\n": "context is not key=value",
		"\x00" + header:                        "not text",
		twelve:                                 "the header has to be",
		strings.TrimSuffix(nine, "\n") + "\tsha256\na\tquote\taccept\t\t\t\t\t\t\t" + strings.Repeat("ab", 32) + "zz\n": "sha256 is not 64 hex digits",
	} {
		if _, err := conformance.ParseManifest([]byte(manifest)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", manifest, err)
		}
	}
}

// TestQuoteOfNoSelection: a capture of which nobody knows what was asked for is
// judged by what it says itself, as far as that is a selection.
func TestQuoteOfNoSelection(t *testing.T) {
	m := newMachine(t)
	quote := m.files["quote"]
	body := len(quote) - 2 - 32 - 6
	for name, c := range map[string]struct {
		content string
		want    reason.Code
	}{
		"no selection":       {quote[:body-4] + "\x00\x00\x00\x00" + quote[body+6:], reason.TPM2QuoteSelection},
		"mask of two":        {quote[:body+2] + "\x02" + quote[body+3:body+5] + quote[body+6:], reason.TPM2QuoteSelectSize},
		"mask of four":       {quote[:body+2] + "\x04" + quote[body+3:body+6] + "\x00" + quote[body+6:], reason.TPM2QuoteSelectSize},
		"mask of four zeros": {quote[:body+2] + "\x04\x00\x00\x00\x00" + quote[body+6:], reason.TPM2QuoteSelectSize},
		"mask of eight":      {quote[:body+2] + "\x08" + quote[body+3:body+6] + strings.Repeat("\x00", 5) + quote[body+6:], reason.TPM2QuoteSelectSize},
	} {
		r := one(t, "bare\tattest\taccept\t\t", map[string]string{"bare": c.content})
		if r.Status != conformance.Differs || r.Got != string(c.want) {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// TestCertifyByAKOfAnotherPlace: captures hold AKs that are children of a storage
// key or primary keys of the owner. What such a key signed counts; what it did
// not sign is a damaged signature as long as the structure names that key, and
// the word of another AK where it names somebody else.
func TestCertifyByAKOfAnotherPlace(t *testing.T) {
	m := newMachine(t)
	ak, named := m.tpm.AK, func(signer []byte) string {
		return m.files["certify"][:8] + string(signer) + m.files["certify"][8+len(signer):]
	}
	name := func(b ...byte) []byte {
		sum := sha256.Sum256(b)
		return append([]byte{0, 0x0b}, sum[:]...)
	}
	owner := named(name(append([]byte{0x40, 0, 0, 1}, ak.Name()...)...))
	child := named(name([]byte("under a storage key")...))
	alone := pemOf("PUBLIC KEY", ak.SPKI(t))
	for _, c := range []struct{ want, certify, sig, ak string }{
		{"accept", owner, string(ak.Sign(t, []byte(owner))), m.files["ak.pub"]},
		{"accept", child, string(ak.Sign(t, []byte(child))), m.files["ak.pub"]},
		{"accept", child, string(ak.Sign(t, []byte(child))), alone},
		{"tpm2.signature.invalid", owner, m.files["certify.sig"], m.files["ak.pub"]},
		{"tpm2.certify.mismatch", child, m.files["certify.sig"], m.files["ak.pub"]},
		{"tpm2.signature.invalid", child, m.files["certify.sig"], alone},
	} {
		m.wants(t, c.want, "certify", "certify", "ak=ak.pub;sig=certify.sig;pub=key.pub;qualifying="+nonce,
			map[string]string{"certify": c.certify, "certify.sig": c.sig, "ak.pub": c.ak})
	}
}

// TestKeysThatNothingReads: the verdict stands, and the report says that the row may
// have asked for more.
func TestKeysThatNothingReads(t *testing.T) {
	m := newMachine(t)
	for key, row := range map[string][]string{
		"sig":   {"quote", "attest", "accept", "", "sig=junk"},
		"ak":    {"quote", "attest", "accept", "", "ak=junk"},
		"roots": {"quote", "quote", "accept", "", m.context + ";roots=root.pem"},
	} {
		r := one(t, strings.Join(row, "\t"), m.files)
		if r.Status != conformance.Same || !strings.Contains(r.Note, `"`+key+`"`) {
			t.Errorf("%s: %+v", key, r)
		}
	}
}
