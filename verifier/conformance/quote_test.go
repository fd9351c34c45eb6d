package conformance_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/conformance"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/ima"
	"github.com/zonebroker/zonebroker/verifier/ima/build"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// machine holds the files of one honest quote and certify, and the context that
// they have to match.
type machine struct {
	tpm     *evidencetest.TPM
	files   map[string]string
	context string
}

const nonce = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

// selectMask is evidencetest.Selection as a manifest writes it.
const selectMask = "0043ff"

func newMachine(t *testing.T) *machine {
	t.Helper()
	p, key := evidencetest.New(t), evidencetest.NewSVIDKey(t)
	bound, _ := hex.DecodeString(nonce)
	attest, sig := p.Quote(t, evidencetest.Selection, bound)
	certify := p.Certify(t, key, bound)
	return &machine{
		tpm: p,
		files: map[string]string{
			"quote": string(attest), "sig": string(sig), "ak.pub": string(p.AK.Public), "log": string(p.EventLog),
			"pcrs.json": string(pcrJSON(t, p.Values(evidencetest.Selection))),
			"certify":   string(certify.Attest), "certify.sig": string(certify.Signature), "key.pub": string(key.Public),
			"other.pub": string(evidencetest.NewAK(t).Public),
		},
		context: "ak=ak.pub;sig=sig;pcrs=pcrs.json;bank=sha256;select=" + selectMask + ";qualifying=" + nonce,
	}
}

func pcrJSON(t *testing.T, values map[int][]byte) []byte {
	t.Helper()
	named := map[string]string{}
	for i, v := range values {
		named[fmt.Sprint(i)] = hex.EncodeToString(v)
	}
	b, err := json.Marshal(named)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// with replaces or adds keys of the context; an empty value takes a key out.
func (m *machine) with(pairs ...string) string {
	out := []string{}
	changed := map[string]string{}
	for _, p := range pairs {
		key, value, _ := strings.Cut(p, "=")
		changed[key] = value
	}
	for pair := range strings.SplitSeq(m.context, ";") {
		key, _, _ := strings.Cut(pair, "=")
		if _, ok := changed[key]; !ok {
			out = append(out, pair)
		}
	}
	for key, value := range changed {
		if value != "" {
			out = append(out, key+"="+value)
		}
	}
	return strings.Join(out, ";")
}

// wants judges a row of the given kind over the files of the machine with some
// replaced.
func (m *machine) wants(t *testing.T, want, kind, path, context string, files map[string]string) {
	t.Helper()
	all := maps.Clone(m.files)
	maps.Copy(all, files)
	verdict, code := "reject", want
	if want == "accept" {
		verdict, code = want, ""
	}
	r := one(t, strings.Join([]string{path, kind, verdict, code, context}, "\t"), all)
	if r.Status != conformance.Same {
		t.Errorf("wanted %s, got %+v", want, r)
	}
}

// TestQuoteForms: the same quote in each form in which captures come.
func TestQuoteForms(t *testing.T) {
	m := newMachine(t)
	values := m.tpm.Values(evidencetest.Selection)
	dump := maps.Clone(values)
	for i := range 24 {
		if dump[i] == nil {
			dump[i] = make([]byte, 32)
		}
	}
	var inline []string
	var list []string
	yaml := "pcrs:\n  sha1:\n    0 : 0x00\n  sha256:\n"
	for i := range 24 {
		list = append(list, hex.EncodeToString(dump[i]))
		yaml += fmt.Sprintf("    %-2d : 0x%x\n", i, dump[i])
		if values[i] != nil {
			inline = append(inline, fmt.Sprintf("pcr.%d=%x", i, values[i]))
		}
	}
	listed, _ := json.Marshal(list)
	spki := m.tpm.AK.SPKI(t)
	sized := func(b []byte) string {
		return string(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
	}
	for name, c := range map[string]struct {
		context string
		files   map[string]string
	}{
		"as they are":        {m.context, nil},
		"with the log":       {m.with("log=log"), nil},
		"no mask":            {m.with("select="), nil},
		"nonce":              {m.with("qualifying=", "nonce="+nonce), nil},
		"report data":        {m.with("qualifying=", "report_data="+nonce), nil},
		"TPM2B":              {m.context, map[string]string{"ak.pub": sized(m.tpm.AK.Public)}},
		"PEM":                {m.context, map[string]string{"ak.pub": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))}},
		"DER":                {m.context, map[string]string{"ak.pub": string(spki)}},
		"certificate":        {m.context, map[string]string{"ak.pub": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: akCertificate(t, m.tpm.AK)}))}},
		"DER certificate":    {m.context, map[string]string{"ak.pub": string(akCertificate(t, m.tpm.AK))}},
		"JSON by bank":       {m.context, map[string]string{"pcrs.json": `{"sha1":{"0":"00"},"sha256":` + string(pcrJSON(t, values)) + `}`}},
		"JSON of all":        {m.context, map[string]string{"pcrs.json": string(pcrJSON(t, dump))}},
		"JSON list":          {m.context, map[string]string{"pcrs.json": string(listed)}},
		"JSON below pcrs":    {m.context, map[string]string{"pcrs.json": `{"pcrs":` + string(pcrJSON(t, values)) + `}`}},
		"YAML":               {m.context, map[string]string{"pcrs.json": yaml}},
		"a line a PCR":       {m.context, map[string]string{"pcrs.json": strings.Join(list, "\n")}},
		"inline":             {m.with(append(inline, "pcrs=")...), nil},
		"blob of tpm2-tools": {m.with("pcrs_format=tpm2tools"), map[string]string{"pcrs.json": string(toolsBlob(values))}},
		"no values":          {m.with("pcrs=", "config=signature_only"), nil},
	} {
		t.Run(name, func(t *testing.T) { m.wants(t, "accept", "quote", "quote", c.context, c.files) })
	}
}

// toolsBlob writes what tpm2_quote does for PCR 0 to 9 and 14 of one bank.
func toolsBlob(values map[int][]byte) []byte {
	le := binary.LittleEndian
	out := le.AppendUint32(nil, 1)
	bank := []byte{0x0b, 0, 3, 0xff, 0x43, 0, 0, 0}
	out = append(append(out, bank...), make([]byte, 15*8)...)
	out = le.AppendUint32(out, 2)
	indexes := evidencetest.Selection.Indexes()
	for _, part := range [][]int{indexes[:8], indexes[8:]} {
		out = le.AppendUint32(out, uint32(len(part)))
		list := make([]byte, 8*66)
		for n, i := range part {
			le.PutUint16(list[n*66:], 32)
			copy(list[n*66+2:], values[i])
		}
		out = append(out, list...)
	}
	return out
}

func akCertificate(t *testing.T, ak *evidencetest.Key) []byte {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "AK"}, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: evidencetest.Noon.AddDate(-1, 0, 0), NotAfter: evidencetest.Noon.AddDate(1, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, ak.Signer().Public(), ak.Signer())
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestQuoteRefused: what is forged has the code of the check that finds it.
func TestQuoteRefused(t *testing.T) {
	m := newMachine(t)
	changed := func(name string, at int, to byte) map[string]string {
		b := []byte(m.files[name])
		if at < 0 {
			at += len(b)
		}
		b[at] = to
		return map[string]string{name: string(b)}
	}
	short := m.tpm.Values(evidencetest.Selection)
	short[3] = short[3][:20]
	missing := m.tpm.Values(evidencetest.Selection)
	delete(missing, 3)
	swapped := m.tpm.Values(evidencetest.Selection)
	swapped[0], swapped[1] = swapped[1], swapped[0]
	extra := m.tpm.Values(evidencetest.Selection)
	extra[23] = make([]byte, 32)
	for name, c := range map[string]struct {
		want, context string
		files         map[string]string
	}{
		"other AK":           {"tpm2.signature.invalid", m.with("ak=other.pub"), nil},
		"AK not restricted":  {"tpm2.ak.not_restricted", m.context, changed("ak.pub", 5, 0x04)},
		"AK trailing":        {"tpm2.ak.encoding", m.context, map[string]string{"ak.pub": m.files["ak.pub"] + "x"}},
		"AK size wrong":      {"tpm2.ak.encoding", m.context, map[string]string{"ak.pub": "\x00\x10" + m.files["ak.pub"]}},
		"PEM of no key":      {"tpm2.ak.encoding", m.context, map[string]string{"ak.pub": "-----BEGIN PUBLIC KEY-----\nMAA=\n-----END PUBLIC KEY-----\n"}},
		"PEM of no cert":     {"tpm2.ak.cert_encoding", m.context, map[string]string{"ak.pub": "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"}},
		"flipped":            {"tpm2.signature.invalid", m.context, changed("quote", 60, 0xee)},
		"scheme":             {"tpm2.signature.scheme", m.context, changed("sig", 1, 0x14)},
		"hash":               {"tpm2.signature.hash", m.context, changed("sig", 3, 0x04)},
		"signature longer":   {"tpm2.signature.encoding", m.context, map[string]string{"sig": m.files["sig"] + "x"}},
		"raw without RSA":    {"tpm2.signature.scheme", m.with("sigformat=raw"), nil},
		"other nonce":        {"tpm2.quote.nonce_mismatch", m.with("qualifying=" + strings.Repeat("a5", 32)), nil},
		"no nonce asked":     {"tpm2.quote.nonce_mismatch", m.with("qualifying="), nil},
		"other mask":         {"tpm2.quote.selection", m.with("select=0000ff"), nil},
		"SHA-1 asked":        {"tpm2.pcr.bank", m.with("bank=sha1"), nil},
		"SHA-384 asked":      {"tpm2.pcr.bank", m.with("bank=sha384"), nil},
		"short value":        {"tpm2.pcr.length", m.context, map[string]string{"pcrs.json": string(pcrJSON(t, short))}},
		"no hex":             {"tpm2.pcr.length", m.context, map[string]string{"pcrs.json": strings.Replace(m.files["pcrs.json"], `"0":"`, `"0":"x`, 1)}},
		"missing value":      {"tpm2.pcr.length", m.context, map[string]string{"pcrs.json": string(pcrJSON(t, missing))}},
		"swapped values":     {"tpm2.pcr.digest", m.context, map[string]string{"pcrs.json": string(pcrJSON(t, swapped))}},
		"value too much":     {"tpm2.pcr.unquoted", m.context, map[string]string{"pcrs.json": string(pcrJSON(t, extra))}},
		"all zero":           {"tpm2.pcr.digest", m.with("pcrs=", "config=pcrs_all_zero"), nil},
		"log cut":            {"eventlog.truncated", m.with("log=log"), map[string]string{"log": m.files["log"][:len(m.files["log"])-1]}},
		"log of other boot":  {"eventlog.replay_mismatch", m.with("log=log"), map[string]string{"log": m.files["log"] + m.files["log"][strings.LastIndex(m.files["log"], "\x0e\x00\x00\x00"):]}},
		"TPM 1.2 key":        {"tpm2.version", m.context, map[string]string{"ak.pub": "\x00\x28\x00\x00" + m.files["ak.pub"]}},
		"certify as a quote": {"tpm2.attest.type", m.with("sig=certify.sig"), map[string]string{"quote": m.files["certify"]}},
	} {
		t.Run(name, func(t *testing.T) { m.wants(t, c.want, "quote", "quote", c.context, c.files) })
	}
}

func TestCertify(t *testing.T) {
	m := newMachine(t)
	context := "ak=ak.pub;sig=certify.sig;pub=key.pub;qualifying=" + nonce
	other := newMachine(t)
	spki := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: m.tpm.AK.SPKI(t)})
	for name, c := range map[string]struct {
		want, kind, context string
		files               map[string]string
	}{
		"good":            {"accept", "certify", context, nil},
		"by quote":        {"accept", "certify", "ak=ak.pub;sig=certify.sig;pub=key.pub;quote=quote", nil},
		"by key alone":    {"accept", "certify", context, map[string]string{"ak.pub": string(spki)}},
		"as attest":       {"accept", "attest", context + ";type=certify", nil},
		"other quote":     {"tpm2.certify.nonce_mismatch", "certify", "ak=ak.pub;sig=certify.sig;pub=key.pub;qualifying=" + strings.Repeat("a5", 32), nil},
		"other key":       {"tpm2.certify.mismatch", "certify", context, map[string]string{"key.pub": other.files["key.pub"]}},
		"other AK":        {"tpm2.certify.mismatch", "certify", context, map[string]string{"ak.pub": other.files["ak.pub"]}},
		"flipped":         {"tpm2.signature.invalid", "certify", context, map[string]string{"certify.sig": m.files["sig"]}},
		"AK as SVID key":  {"tpm2.certify.mismatch", "certify", context, map[string]string{"key.pub": m.files["ak.pub"]}},
		"a quote instead": {"tpm2.attest.type", "certify", context, map[string]string{"certify": m.files["quote"], "certify.sig": m.files["sig"]}},
	} {
		t.Run(name, func(t *testing.T) { m.wants(t, c.want, c.kind, "certify", c.context, c.files) })
	}
}

// TestBareStructures: kind attest, where no signature was published.
func TestBareStructures(t *testing.T) {
	m := newMachine(t)
	quote, certify := m.files["quote"], m.files["certify"]
	put := func(s string, at int, b string) string { return s[:at] + b + s[at+len(b):] }
	body := len(quote) - 2 - 32 - 6 // selection of 6 bytes, digest
	for name, c := range map[string]struct{ want, content, context string }{
		"quote":            {"accept", quote, "type=quote;qualifying=" + nonce},
		"no type":          {"accept", quote, ""},
		"certify":          {"accept", certify, "type=certify;pub=key.pub;nonce=" + nonce},
		"magic":            {"tpm2.attest.magic", put(quote, 0, "\xfe"), ""},
		"type":             {"tpm2.attest.type", put(quote, 5, "\x17"), ""},
		"certify as quote": {"tpm2.attest.type", certify, "type=quote"},
		"truncated":        {"tpm2.attest.truncated", quote[:len(quote)-1], ""},
		"only a magic":     {"tpm2.attest.truncated", quote[:5], ""},
		"empty":            {"tpm2.attest.truncated", "", ""},
		"trailing":         {"tpm2.attest.trailing", quote + "x", ""},
		"safe":             {"tpm2.attest.safe", put(quote, 6+2+34+2+32+16, "\x02"), ""},
		"nonce":            {"tpm2.quote.nonce_mismatch", quote, "qualifying=00"},
		"nonce of certify": {"tpm2.certify.nonce_mismatch", certify, "type=certify;qualifying=00"},
		"other key":        {"tpm2.certify.mismatch", certify, "type=certify;pub=other.pub"},
		"five selections":  {"tpm2.quote.selection_count", put(quote, body-1, "\x05"), ""},
		"SHA-1":            {"tpm2.pcr.bank", put(quote, body+1, "\x04"), ""},
		"unknown bank":     {"tpm2.pcr.bank", put(quote, body+1, "\x27"), ""},
		"empty mask":       {"tpm2.quote.selection", put(quote, body+3, "\x00\x00\x00"), ""},
		"mask":             {"tpm2.quote.selection", quote, "select=0000ff"},
		"too large":        {"request.too_large", strings.Repeat("x", 1025), ""},
		"TPM 1.2":          {"tpm2.version", "\x01\x01\x00\x00QUOT", ""},
	} {
		t.Run(name, func(t *testing.T) {
			m.wants(t, c.want, "attest", "bare", c.context, map[string]string{"bare": c.content})
		})
	}
}

// TestBrokenRows: a row that nobody can judge is neither right nor wrong.
func TestBrokenRows(t *testing.T) {
	m := newMachine(t)
	for name, c := range map[string]struct{ context, want string }{
		"no AK":         {m.with("ak="), "ak is missing"},
		"no signature":  {m.with("sig="), "sig is missing"},
		"AK is gone":    {m.with("ak=gone"), "gone does not exist"},
		"AK outside":    {m.with("ak=../ak.pub"), "not a path below the folder"},
		"sigformat":     {m.with("sigformat=der"), "sigformat=der"},
		"config":        {m.with("config=none"), "config=none"},
		"pcrs_format":   {m.with("pcrs_format=other"), "pcrs_format=other"},
		"no blob":       {m.with("pcrs_format=tpm2tools"), "the PCR blob"},
		"container":     {m.with("container=zip"), "container=zip"},
		"no hex":        {m.with("qualifying=xyz"), "qualifying is not hex"},
		"select":        {m.with("select=ff"), "six hex digits"},
		"empty values":  {m.with("pcrs=empty"), "is empty"},
		"values binary": {m.with("pcrs=broken"), "JSON of an unknown form"},
	} {
		t.Run(name, func(t *testing.T) {
			files := maps.Clone(m.files)
			files["empty"], files["broken"] = " ", `{"0": 1}`
			r := one(t, "quote\tquote\taccept\t\t"+c.context, files)
			if r.Status != conformance.Broken || !strings.Contains(r.Detail, c.want) {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestContainer(t *testing.T) {
	m := newMachine(t)
	dump := func(version int) string {
		type pcr struct {
			Index  int
			Digest []byte
		}
		var pcrs []pcr
		for i, v := range m.tpm.Values(evidencetest.Selection) {
			pcrs = append(pcrs, pcr{i, v})
		}
		b, err := json.Marshal(map[string]any{
			"Static": map[string]any{"TPMVersion": version},
			"AK":     map[string]any{"Public": []byte(m.files["ak.pub"])},
			"Quote":  map[string]any{"Quote": []byte(m.files["quote"]), "Signature": []byte(m.files["sig"])},
			"Log":    map[string]any{"PCRs": pcrs, "Raw": []byte(m.files["log"])},
		})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	context := "container=go-attestation;bank=sha256;select=" + selectMask + ";qualifying=" + nonce
	m.wants(t, "accept", "quote", "dump", context, map[string]string{"dump": dump(2)})
	m.wants(t, "tpm2.version", "quote", "dump", context, map[string]string{"dump": dump(1)})
	m.wants(t, "accept", "eventlog", "dump", "container=go-attestation;check=secure_boot;secure_boot=on", map[string]string{"dump": dump(2)})
}

func TestEKCertificate(t *testing.T) {
	maker, ek := evidencetest.NewMaker(t), evidencetest.NewEK(t)
	p := evidencetest.New(t)
	p.EK = ek
	maker.Endorse(t, p)
	chain := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.EKCertificate}))
	for _, c := range p.EKChain {
		chain += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c}))
	}
	m := &machine{files: map[string]string{"ek.pem": chain, "root.pem": string(maker.PEM()), "ek.pub": string(ek.Public), "other.pub": string(evidencetest.NewEK(t).Public)}}
	at := "time=2026-11-20T12:00:00Z"
	m.wants(t, "ekcert.untrusted", "ekcert", "ek.pem", at+";roots=ek.pem", nil)
	m.wants(t, "accept", "ekcert", "ek.pem", at+";roots=root.pem", nil)
	m.wants(t, "accept", "ekcert", "ek.pem", at+";roots=root.pem;pub=ek.pub", nil)
	m.wants(t, "ekcert.key_mismatch", "ekcert", "ek.pem", at+";roots=root.pem;pub=other.pub", nil)
	m.wants(t, "ekcert.untrusted", "ekcert", "ek.pem", at, nil)
	m.wants(t, "ekcert.validity", "ekcert", "ek.pem", "time=2126-11-20T12:00:00Z;roots=root.pem", nil)
	m.wants(t, "ekcert.encoding", "platcert", "junk", at+";as=ekcert", map[string]string{"junk": "\x30\x03junk"})
	if r := one(t, "ek.pem\tekcert\taccept\t\troots=root.pem", m.files); r.Status != conformance.Broken {
		t.Errorf("without a time: %+v", r)
	}
	if r := one(t, "ek.pem\tekcert\taccept\t\troots=ek.pub;"+at, m.files); r.Status != conformance.Broken {
		t.Errorf("roots that are none: %+v", r)
	}
}

func TestAKCertificate(t *testing.T) {
	ak := evidencetest.NewAK(t)
	m := &machine{files: map[string]string{
		"ak.pem": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: akCertificate(t, ak)})),
		"ak.pub": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: ak.SPKI(t)})),
		"other":  string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: evidencetest.NewAK(t).SPKI(t)})),
		"public": string(ak.Public), "root.pem": string(evidencetest.NewMaker(t).PEM()),
	}}
	at := "time=2026-11-20T12:00:00Z;roots=root.pem"
	m.wants(t, "tpm2.ak.cert_untrusted", "akcert", "ak.pem", at, nil)
	m.wants(t, "tpm2.ak.cert_untrusted", "akcert", "ak.pem", at+";ak=ak.pub", nil)
	m.wants(t, "tpm2.ak.cert_key_mismatch", "akcert", "ak.pem", at+";ak=other", nil)
	m.wants(t, "tpm2.ak.cert_encoding", "akcert", "junk", at, map[string]string{"junk": "junk"})
	for _, context := range []string{at + ";ak=public", "roots=root.pem", "time=2026-11-20T12:00:00Z;roots=ak.pub"} {
		if r := one(t, "ak.pem\takcert\taccept\t\t"+context, m.files); r.Status != conformance.Broken {
			t.Errorf("%s: %+v", context, r)
		}
	}
	q := newMachine(t)
	q.files["root.pem"], q.files["ak.pem"] = m.files["root.pem"], string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: akCertificate(t, q.tpm.AK)}))
	q.wants(t, "tpm2.ak.cert_untrusted", "quote", "quote", q.with("ak=ak.pem")+";"+at, nil)
}

func TestIMA(t *testing.T) {
	list := build.New(build.File("/usr/bin/true", []byte("true")), build.Violation("/tmp/x"))
	old := build.New(build.File("/usr/bin/true", []byte("true")))
	odd := old.Entries()[0]
	odd.Digest[0] ^= 1
	m := &machine{files: map[string]string{
		"list": string(list.Bytes()), "old": string(old.Bytes()), "odd": string(build.New(odd).Bytes()),
		"ascii": "10 0000 ima-ng sha256:00 /usr/bin/true",
	}}
	pcr10 := fmt.Sprintf("pcr.10=%x", build.PCR10(list.Extends()))
	padded := fmt.Sprintf("pcr.10=%x", build.PCR10(old.PaddedExtends()))
	for _, c := range []struct{ want, path, context string }{
		{"accept", "list", "bank=sha256;check=replay;entries=2;violations=1;" + pcr10},
		{"accept", "old", "check=replay;entries=1;violations=0;" + padded},
		{"accept", "old", "check=appraise"},
		{"ima.violation", "list", "bank=sha256;check=appraise"},
		{"ima.digest", "odd", "check=appraise"},
		{"ima.truncated", "list", "check=replay;" + padded},
		{"ima.encoding", "ascii", "check=replay"},
		{"tpm2.pcr.length", "old", "check=replay;pcr.10=00"},
		{"request.too_large", "large", ""},
	} {
		m.wants(t, c.want, "ima", c.path, c.context, map[string]string{"large": strings.Repeat("x", ima.MaxList+1)})
	}
	r := one(t, "list\tima\taccept\t\tcheck=replay;entries=3;violations=2", m.files)
	if r.Status != conformance.Differs || len(r.Facts) != 2 || r.Facts[0] != (conformance.Fact{Name: "entries", Wanted: "3", Got: "2"}) {
		t.Errorf("%+v", r)
	}
}

func TestSelectionOfManifest(t *testing.T) {
	if got := evidencetest.Selection; got != (tpm2.Selection{0xff, 0x43, 0x00}) {
		t.Errorf("selectMask stands for %v", got)
	}
}
