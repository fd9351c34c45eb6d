package oracle

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/conformance"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// Layout of the generated TPMS_ATTEST: magic, type, qualifiedSigner, and at the
// end one selection of three bytes and a digest of SHA-256.
const (
	atSigner = 8
	fromEnd  = 4 + 2 + 1 + 3 + 2 + sha256.Size
)

// generatedQuotes names each quote "key: what was done to it".
func generatedQuotes(t *testing.T) map[string]quote {
	t.Helper()
	out := map[string]quote{}
	for kind, ak := range map[string]*evidencetest.Key{"P-256": evidencetest.NewAK(t), "RSA-2048": evidencetest.RSAAK(t)} {
		p := evidencetest.New(t)
		p.AK = ak
		for change, q := range changed(t, p) {
			out[kind+": "+change] = q
		}
	}
	p := evidencetest.New(t)
	p.AK = evidencetest.NewSVIDKey(t)
	out["P-256: a key that signs anything"] = quoteOf(t, p, nonce)
	return out
}

var (
	nonce = bytes.Repeat([]byte{0x5a}, 32)
	asked = tpm2.SelectionOf(0, 7, 14)
)

func quoteOf(t *testing.T, p *evidencetest.TPM, qualifying []byte) quote {
	t.Helper()
	q := quote{akPublic: p.AK.Public, qualifying: qualifying, bank: tpm2.BankSHA256, selection: asked, pcrs: p.Values(asked)}
	q.attest, q.signature = p.Quote(t, asked, qualifying)
	return q
}

// signed returns q over another TPMS_ATTEST, which the AK signs: no TPM would.
func (q quote) signed(t *testing.T, p *evidencetest.TPM, change func(b []byte) []byte) quote {
	t.Helper()
	q.attest = change(bytes.Clone(q.attest))
	q.signature = p.AK.Sign(t, q.attest)
	return q
}

// over returns q over values of another bank.
func (q quote) over(t *testing.T, p *evidencetest.TPM, bank tpm2.Bank) quote {
	t.Helper()
	q.bank, q.pcrs = bank, map[int][]byte{}
	h := sha256.New()
	for _, i := range asked.Indexes() {
		q.pcrs[i] = bytes.Repeat([]byte{byte(i + 1)}, hashOf[bank].Size())
		h.Write(q.pcrs[i])
	}
	return q.signed(t, p, func(b []byte) []byte {
		binary.BigEndian.PutUint16(b[len(b)-fromEnd+4:], uint16(bank))
		return h.Sum(b[:len(b)-sha256.Size])
	})
}

func changed(t *testing.T, p *evidencetest.TPM) map[string]quote {
	t.Helper()
	good := quoteOf(t, p, nonce)
	// replaced puts other bytes in the place of n that begin at bytes before the end.
	replaced := func(at, n int, with ...byte) quote {
		return good.signed(t, p, func(b []byte) []byte {
			return slices.Replace(b, len(b)-at, len(b)-at+n, with...)
		})
	}
	out := map[string]quote{
		"good":             good,
		"nothing bound":    quoteOf(t, p, nil),
		"SHA-1 bank":       good.over(t, p, tpm2.BankSHA1),
		"SHA-384 bank":     good.over(t, p, tpm2.BankSHA384),
		"a byte behind":    good.signed(t, p, func(b []byte) []byte { return append(b, 0) }),
		"another magic":    good.signed(t, p, func(b []byte) []byte { b[0] ^= 1; return b }),
		"safe is 2":        good.signed(t, p, func(b []byte) []byte { b[len(b)-fromEnd-9] = 2; return b }),
		"another type":     good.signed(t, p, func(b []byte) []byte { b[5] = 0x1a; return b }),
		"another parent":   good.signed(t, p, func(b []byte) []byte { b[atSigner+2] ^= 1; return b }),
		"a select of four": replaced(fromEnd-6, 4, 4, asked[0], asked[1], asked[2], 0),
		"two selections":   replaced(fromEnd, 4, 0, 0, 0, 2, 0, 4, 3, 0, 0, 0),
		"no selection":     replaced(fromEnd, 10, 0, 0, 0, 0),
	}
	certify := p.Certify(t, evidencetest.NewSVIDKey(t), nonce)
	q := good
	q.attest, q.signature = certify.Attest, certify.Signature
	out["TPM2_Certify"] = q
	q = good
	q.selection = tpm2.SelectionOf(0, 7)
	out["fewer PCRs asked for"] = q
	q.selection, q.pcrs = tpm2.SelectionOf(0, 8, 14), map[int][]byte{0: good.pcrs[0], 8: good.pcrs[7], 14: good.pcrs[14]}
	out["PCR 7 passed for PCR 8"] = q
	maps.Copy(out, otherValues(good))
	for part, b := range map[string][]byte{"attest": good.attest, "signature": good.signature, "qualifying": nonce, "PCR 7": good.pcrs[7]} {
		for i := 0; i < len(b); i += step(part, i, len(b)) {
			out[fmt.Sprintf("%s, byte %d turned", part, i)] = good.turned(part, i)
		}
	}
	return out
}

// step: every byte of the head of a signature, which nothing signs, and a dozen of
// all else.
func step(part string, i, n int) int {
	if part == "signature" && i < 6 {
		return 1
	}
	return 1 + n/12
}

// otherValues changes which values are sent.
func otherValues(good quote) map[string]quote {
	with := func(change func(values map[int][]byte)) quote {
		q := good
		q.pcrs = maps.Clone(good.pcrs)
		change(q.pcrs)
		return q
	}
	return map[string]quote{
		"a value too many": with(func(v map[int][]byte) { v[9] = make([]byte, sha256.Size) }),
		"a value less":     with(func(v map[int][]byte) { delete(v, 14) }),
		"two values in each other's place": with(func(v map[int][]byte) {
			v[0], v[7] = v[7], v[0]
		}),
		"a byte moved to the value before": with(func(v map[int][]byte) {
			v[0], v[7] = append(bytes.Clone(v[0]), v[7][0]), v[7][1:]
		}),
	}
}

// turned returns q with one bit of one part turned.
func (q quote) turned(part string, i int) quote {
	turn := func(b []byte) []byte {
		out := bytes.Clone(b)
		out[i] ^= 1
		return out
	}
	switch part {
	case "attest":
		q.attest = turn(q.attest)
	case "signature":
		q.signature = turn(q.signature)
	case "qualifying":
		q.qualifying = turn(q.qualifying)
	default:
		q.pcrs = maps.Clone(q.pcrs)
		q.pcrs[7] = turn(q.pcrs[7])
	}
	return q
}

// vectorDir is the folder of the vectors; there is none without its manifest.
func vectorDir() (string, []byte) {
	dir := os.Getenv("ZONEBROKER_VECTORS")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "vectors")
	}
	dir = filepath.Join(dir, "tpm")
	raw, err := os.ReadFile(filepath.Join(dir, "MANIFEST.tsv"))
	if err != nil {
		return dir, nil
	}
	return dir, raw
}

// vectorQuotes returns the quotes of the vectors that have a key, a signature and
// PCR values: each asked as its row says, and once more as the quote itself says.
func vectorQuotes(t *testing.T) map[string]quote {
	t.Helper()
	dir, manifest := vectorDir()
	if manifest == nil {
		t.Logf("no vectors: %s is absent; only generated quotes are compared", dir)
		return nil
	}
	rows, err := conformance.ParseManifest(manifest)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]quote{}
	for _, row := range rows {
		if row.Kind != "quote" {
			continue
		}
		q := rowQuote(t, dir, row)
		want := string(row.Code)
		if row.Verdict == conformance.Accept {
			want = ""
		}
		if got := string(reason.Of(q.ours())); got != want {
			t.Errorf("line %d of the manifest: %q, want %q", row.Line, got, want)
		}
		out[fmt.Sprintf("%s: %s", row.Verdict, row.Path)] = q
		if said, err := tpm2.ReadAttest(q.attest, tpm2.KindQuote); err == nil && len(said.Selections) == 1 {
			q.qualifying = said.ExtraData
			copy(q.selection[:], said.Selections[0].Mask)
			q.bank = tpm2.Bank(said.Selections[0].Algorithm)
			q.pcrs = rowValues(t, dir, row, q.bank)
			out["as it says: its own words, "+row.Path] = q
		}
	}
	return out
}

func readVector(t *testing.T, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func rowContext(row conformance.Row) map[string]string {
	out := map[string]string{}
	for pair := range strings.SplitSeq(row.Context, ";") {
		key, value, _ := strings.Cut(pair, "=")
		out[key] = value
	}
	return out
}

// dump is what go-attestation publishes of a machine.
type dump struct {
	AK    struct{ Public []byte }
	Quote struct{ Quote, Signature []byte }
	Log   struct {
		PCRs []struct {
			Index  int
			Digest []byte
		}
	}
}

func rowQuote(t *testing.T, dir string, row conformance.Row) quote {
	t.Helper()
	given := rowContext(row)
	q := quote{anySigner: true}
	q.bank, _ = tpm2.ParseBank(given["bank"])
	q.pcrs = rowValues(t, dir, row, q.bank)
	mask, err := hex.DecodeString(given["select"])
	if err != nil || len(mask) != 3 {
		t.Fatalf("line %d: select is no mask", row.Line)
	}
	q.selection = tpm2.Selection{mask[2], mask[1], mask[0]}
	if q.qualifying, err = hex.DecodeString(given["qualifying"]); err != nil {
		t.Fatal(err)
	}
	if given["container"] != "" {
		var d dump
		if err := json.Unmarshal(readVector(t, dir, row.Path), &d); err != nil {
			t.Fatal(err)
		}
		q.akPublic, q.attest, q.signature = d.AK.Public, d.Quote.Quote, d.Quote.Signature
		return q
	}
	q.attest, q.signature = readVector(t, dir, row.Path), readVector(t, dir, given["sig"])
	if given["sigformat"] == "raw" {
		q.signature = tpm2.RawRSASSA(q.signature)
	}
	ak := readVector(t, dir, given["ak"])
	if block, _ := pem.Decode(ak); block != nil {
		q.akKey = block.Bytes
		return q
	}
	if int(binary.BigEndian.Uint16(ak)) == len(ak)-2 {
		ak = ak[2:]
	}
	q.akPublic = ak
	return q
}

// rowValues returns the PCR values of a bank that a row publishes.
func rowValues(t *testing.T, dir string, row conformance.Row, bank tpm2.Bank) map[int][]byte {
	t.Helper()
	given := rowContext(row)
	if given["container"] != "" {
		var d dump
		if err := json.Unmarshal(readVector(t, dir, row.Path), &d); err != nil {
			t.Fatal(err)
		}
		out := map[int][]byte{}
		for _, p := range d.Log.PCRs {
			if len(p.Digest) == hashOf[bank].Size() {
				out[p.Index] = p.Digest
			}
		}
		return out
	}
	raw := readVector(t, dir, given["pcrs"])
	if given["pcrs_format"] == "tpm2tools" {
		return readBlob(raw)
	}
	out, err := conformance.PCRValues(raw, bank)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// The blob of PCR values that tpm2_quote writes and tpm2_checkquote reads is
// memory of a little-endian machine: a TPML_PCR_SELECTION (count, 16 entries of
// hash 2, size 1, mask 4, padding 1), the number of lists, and those (count, eight
// entries of size 2 and 64 bytes).
const (
	blobHead    = 4 + 16*8
	blobEntry   = 2 + 64
	blobPerList = 8
)

func writeBlob(bank tpm2.Bank, values map[int][]byte) []byte {
	le := binary.LittleEndian
	head := make([]byte, blobHead)
	le.PutUint32(head, 1)
	le.PutUint16(head[4:], uint16(bank))
	head[6] = 3
	sorted := slices.Sorted(maps.Keys(values))
	for _, i := range sorted {
		head[7+i/8] |= 1 << (i % 8)
	}
	lists := slices.Collect(slices.Chunk(sorted, blobPerList))
	out := le.AppendUint32(head, uint32(len(lists)))
	for _, list := range lists {
		out = le.AppendUint32(out, uint32(len(list)))
		for _, i := range list {
			out = le.AppendUint16(out, uint16(len(values[i])))
			out = append(append(out, values[i]...), make([]byte, blobEntry-2-len(values[i]))...)
		}
		out = append(out, make([]byte, (blobPerList-len(list))*blobEntry)...)
	}
	return out
}

// readBlob reads a blob of one bank and up to eight values.
func readBlob(raw []byte) map[int][]byte {
	out := map[int][]byte{}
	entry := raw[blobHead+4+4:]
	for i := range tpm2.PCRs {
		if raw[7+i/8]&(1<<(i%8)) != 0 {
			out[i] = entry[2 : 2+binary.LittleEndian.Uint16(entry)]
			entry = entry[blobEntry:]
		}
	}
	return out
}
