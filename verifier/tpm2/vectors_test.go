package tpm2_test

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// vector is one row of MANIFEST.tsv.
type vector struct {
	dir, path, kind, verdict string
	code                     reason.Code
	context                  map[string]string
}

// vectors returns the rows of the given kinds, or skips with a sentence.
func vectors(t *testing.T, kinds ...string) []vector {
	t.Helper()
	dir := os.Getenv("ZONEBROKER_VECTORS")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "vectors")
	}
	dir = filepath.Join(dir, "tpm")
	raw, err := os.ReadFile(filepath.Join(dir, "MANIFEST.tsv"))
	if err != nil {
		t.Skipf("no vectors: %s is absent; set ZONEBROKER_VECTORS to run these cases", dir)
	}
	var out []vector
	for line := range strings.Lines(string(raw)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) < 5 || !contains(kinds, f[1]) {
			continue
		}
		v := vector{dir: dir, path: f[0], kind: f[1], verdict: f[2], code: reason.Code(f[3]), context: map[string]string{}}
		for _, pair := range strings.Split(f[4], ";") {
			if key, value, ok := strings.Cut(pair, "="); ok {
				v.context[key] = value
			}
		}
		out = append(out, v)
	}
	return out
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

func (v vector) read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(v.dir, path))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestVectors(t *testing.T) {
	rows := vectors(t, "quote", "attest", "certify")
	if len(rows) == 0 {
		t.Fatal("the manifest has no quotes")
	}
	ran := map[string]int{}
	for _, v := range rows {
		t.Run(v.path+"/"+v.verdict, func(t *testing.T) {
			var err error
			switch v.kind {
			case "quote":
				err = v.quote(t)
			case "attest":
				err = v.attest(t)
			default:
				t.Fatalf("no adapter for kind %s", v.kind)
			}
			if (err == nil) != (v.verdict == "accept") {
				t.Errorf("verdict: %v, want %s", err, v.verdict)
			}
			wantCode(t, err, v.code)
			ran[v.kind]++
		})
	}
	t.Logf("%d quotes and %d attestation structures ran", ran["quote"], ran["attest"])
}

// quote judges a captured quote with the package's own path. Captures bring AKs
// of other hierarchies and SPKIs without attributes: the adapter supplies what
// they lack, and the qualified name that a relying party would have pinned.
func (v vector) quote(t *testing.T) error {
	if v.context["container"] == "go-attestation" {
		return v.goAttestation(t)
	}
	attest := v.read(t, v.path)
	sig := v.read(t, v.context["sig"])
	if v.context["sigformat"] == "raw" {
		sig = rsaSignature(rsassa, sha256Alg, sig)
	}
	public := v.read(t, v.context["ak"])
	if block, _ := pem.Decode(public); block != nil {
		public = akFromSPKI(t, block.Bytes)
	}
	ak, err := tpm2.ParseAK(public)
	if err != nil {
		return err
	}
	decoded, err := tpm2.DecodeAttest(attest)
	if err != nil {
		return err
	}
	attested, err := tpm2.AuthenticateQuote(ak.InHierarchy(decoded.Signer), attest, sig, unhex(v.context["qualifying"]))
	if err != nil {
		return err
	}
	want := v.selection(t)
	_, err = attested.Quote(want, v.pcrs(t, want))
	return err
}

func akFromSPKI(t *testing.T, der []byte) []byte {
	t.Helper()
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		t.Fatal(err)
	}
	pub := key.(*rsa.PublicKey)
	return public{
		kind: 0x0001, nameAlg: sha256Alg, attributes: akAttributes,
		sym: []uint16{nullAlg}, scheme: []uint16{rsassa, sha256Alg}, bits: uint16(pub.N.BitLen()), x: pub.N.Bytes(),
	}.marshal()
}

// pcrs returns the published values of the selected PCRs.
func (v vector) pcrs(t *testing.T, want tpm2.Selection) map[int][]byte {
	t.Helper()
	raw := v.read(t, v.context["pcrs"])
	if v.context["pcrs_format"] == "tpm2tools" {
		return tpm2ToolsPCRs(t, raw)
	}
	var file map[string]string
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	out := map[int][]byte{}
	for key, value := range file {
		i, err := strconv.Atoi(key)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := hex.DecodeString(value); err == nil && want.Has(i) {
			out[i] = b
		}
	}
	return out
}

// tpm2ToolsPCRs reads the blob of tpm2_quote: TPML_PCR_SELECTION (count, then 16
// entries of 8 bytes: hash, sizeofSelect, 4 mask bytes, one of padding), a count
// of TPML_DIGESTs, each with a count and 8 entries of 66 bytes.
func tpm2ToolsPCRs(t *testing.T, raw []byte) map[int][]byte {
	t.Helper()
	le := binary.LittleEndian
	const list = 4 + 16*8
	if le.Uint32(raw) != 1 || len(raw) < list+4 {
		t.Fatal("the PCR blob has another form than the adapter knows")
	}
	var sel tpm2.Selection
	copy(sel[:], raw[7:10])
	out := map[int][]byte{}
	rest := raw[list+4:]
	n := 0
	for _, i := range sel.Indexes() {
		if n == int(le.Uint32(rest)) {
			rest, n = rest[4+8*66:], 0
		}
		entry := rest[4+n*66:]
		out[i] = entry[2 : 2+le.Uint16(entry)]
		n++
	}
	return out
}

func (v vector) goAttestation(t *testing.T) error {
	var file struct {
		AK    struct{ Public []byte }
		Quote struct{ Quote, Signature []byte }
		Log   struct {
			PCRs []struct {
				Index  int
				Digest []byte
			}
		}
	}
	if err := json.Unmarshal(v.read(t, v.path), &file); err != nil {
		t.Fatal(err)
	}
	ak, err := tpm2.ParseAK(file.AK.Public)
	if err != nil {
		return err
	}
	decoded, err := tpm2.DecodeAttest(file.Quote.Quote)
	if err != nil {
		return err
	}
	_, err = tpm2.AuthenticateQuote(ak.InHierarchy(decoded.Signer), file.Quote.Quote, file.Quote.Signature, unhex(v.context["qualifying"]))
	return err
}

// attest reads a bare structure: no signature was published, so decoding is all
// that can be said.
func (v vector) attest(t *testing.T) error {
	d, err := tpm2.DecodeAttest(v.read(t, v.path))
	if err != nil {
		return err
	}
	if v.context["type"] != "quote" || d.Kind != 0x8018 || d.Magic != 0xff544347 {
		t.Errorf("type %#x, magic %#x", d.Kind, d.Magic)
	}
	if !bytes.Equal(d.Extra, unhex(v.context["qualifying"])) {
		t.Errorf("extraData %x", d.Extra)
	}
	return nil
}

// selection reads the mask of the manifest. There it is one number, bit 0 = PCR 0
// ("010000" is PCR 16), and so the bytes stand the other way round than as
// signed, on the wire and in ParseSelection.
func (v vector) selection(t *testing.T) tpm2.Selection {
	t.Helper()
	b := unhex(v.context["select"])
	if len(b) != 3 {
		t.Fatalf("select %q", v.context["select"])
	}
	return tpm2.Selection{b[2], b[1], b[0]}
}

// TestVectorsInEndorsementHierarchy: the AKs of Azure's vTPMs are endorsement
// primaries with the attributes of tpm.md 1.1, so those captures pass without
// any adapter for the hierarchy: Name and qualified name are what a real TPM
// computes.
func TestVectorsInEndorsementHierarchy(t *testing.T) {
	n := 0
	for _, v := range vectors(t, "quote") {
		if v.verdict != "accept" || v.context["sigformat"] != "raw" {
			continue
		}
		block, _ := pem.Decode(v.read(t, v.context["ak"]))
		ak, err := tpm2.ParseAK(akFromSPKI(t, block.Bytes))
		if err != nil {
			t.Fatal(err)
		}
		sig := rsaSignature(rsassa, sha256Alg, v.read(t, v.context["sig"]))
		if _, err := tpm2.AuthenticateQuote(ak, v.read(t, v.path), sig, unhex(v.context["qualifying"])); err != nil {
			t.Errorf("%s: %v", v.path, err)
		}
		n++
	}
	t.Logf("%d quotes ran", n)
}
