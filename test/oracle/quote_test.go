package oracle

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-attestation/attest"

	"github.com/zonebroker/zonebroker/deploy/hostdeps"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// quote is a quote as somebody hands it in, and what is asked about it. The
// oracles know of no selection that was asked for: they compare what was quoted
// with the values that were sent.
type quote struct {
	akPublic, akKey               []byte // TPMT_PUBLIC, or SubjectPublicKeyInfo where only that is known
	attest, signature, qualifying []byte
	bank                          tpm2.Bank
	selection                     tpm2.Selection
	pcrs                          map[int][]byte
	anySigner                     bool // a capture: nobody kept the pin
}

func (q quote) ours() error {
	_, _, err := tpm2.Verify(
		tpm2.Evidence{AKPublic: q.akPublic, AKKey: q.akKey, Attest: q.attest, Signature: q.signature, PCRs: q.pcrs},
		tpm2.Context{Qualifying: q.qualifying, Selection: q.selection, Bank: q.bank, AnySigner: q.anySigner})
	return err
}

var hashOf = map[tpm2.Bank]crypto.Hash{tpm2.BankSHA1: crypto.SHA1, tpm2.BankSHA256: crypto.SHA256, tpm2.BankSHA384: crypto.SHA384}

func (q quote) goAttestation() error {
	ak := &attest.AKPublic{Hash: crypto.SHA256}
	var err error
	if q.akPublic != nil {
		ak, err = attest.ParseAKPublic(q.akPublic)
	} else {
		ak.Public, err = x509.ParsePKIXPublicKey(q.akKey)
	}
	if err != nil {
		return err
	}
	var pcrs []attest.PCR
	for i, v := range q.pcrs {
		pcrs = append(pcrs, attest.PCR{Index: i, Digest: v, DigestAlg: hashOf[q.bank]})
	}
	return ak.Verify(attest.Quote{Quote: q.attest, Signature: q.signature}, pcrs, q.qualifying)
}

// tools are the programs of tpm2-tools.
type tools struct {
	dir string
	env []string
}

// newTools fails where they are missing, with the command that installs them: a
// comparison that nobody made must not look like one.
func newTools(t *testing.T) tools {
	t.Helper()
	found, err := hostdeps.Ensure(t.Context(), hostdeps.Options{}, hostdeps.TPM2Tools)
	if err != nil {
		t.Fatal(err)
	}
	return tools{filepath.Dir(found.Path("tpm2_checkquote")), append(os.Environ(), found.Env(hostdeps.TPM2Tools)...)}
}

// run returns what a program prints and, where it refused, its last line.
func (c tools) run(t *testing.T, name string, args ...string) (out []byte, refused error) {
	t.Helper()
	var complaint bytes.Buffer
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), filepath.Join(c.dir, name), args...)
	cmd.Env, cmd.Stderr = c.env, &complaint
	out, err := cmd.Output()
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		said := strings.Split(strings.TrimSpace(complaint.String()), "\n")
		return out, errors.New(said[0])
	}
	if err != nil {
		t.Fatal(err)
	}
	return out, nil
}

func (c tools) checkquote(t *testing.T, q quote) error {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, parts ...[]byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, bytes.Join(parts, nil), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	public := [][]byte{pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: q.akKey})}
	if q.akPublic != nil {
		public = [][]byte{binary.BigEndian.AppendUint16(nil, uint16(len(q.akPublic))), q.akPublic}
	}
	hash := "sha256"
	if bytes.HasPrefix(q.signature, []byte{0, 0x14, 0, 4}) { // RSASSA with SHA-1
		hash = "sha1"
	}
	args := []string{
		"-Q", "-u", write("ak", public...), "-m", write("quote", q.attest), "-s", write("signature", q.signature),
		"-g", hash, "-f", write("pcrs", writeBlob(q.bank, q.pcrs)),
	}
	if len(q.qualifying) > 0 {
		args = append(args, "-q", hex.EncodeToString(q.qualifying))
	}
	_, err := c.run(t, "tpm2_checkquote", args...)
	return err
}

// difference is "" where both say the same: a refusal is one, whatever the words.
func difference(ours, theirs error) string {
	switch {
	case ours == nil && theirs != nil:
		return "they refuse: " + theirs.Error()
	case ours != nil && theirs == nil:
		return "ours refuses: " + string(reason.Of(ours))
	}
	return ""
}

// TestQuotes compares verdict for verdict, over generated quotes and those of the
// vectors.
func TestQuotes(t *testing.T) {
	tpmTools := newTools(t)
	all := generatedQuotes(t)
	own := len(all)
	captured := vectorQuotes(t)
	maps.Copy(all, captured)
	seen := map[string]bool{}
	compared, accepted := 0, 0
	for _, name := range slices.Sorted(maps.Keys(all)) {
		q := all[name]
		mine := q.ours()
		if mine == nil {
			accepted++
		}
		for oracle, theirs := range map[string]error{"go-attestation": q.goAttestation(), "tpm2_checkquote": tpmTools.checkquote(t, q)} {
			compared++
			got := difference(mine, theirs)
			if got == "" {
				continue
			}
			_, change, _ := strings.Cut(name, ": ")
			key := change + " / " + oracle
			seen[key] = true
			if want, ok := quotesMeant[key]; !ok || got != "ours refuses: "+want.code {
				t.Errorf("%s / %s: %s", name, oracle, got)
			}
		}
	}
	for key, meant := range quotesMeant {
		if !seen[key] && (len(captured) > 0 || !meant.captured) {
			t.Errorf("%q is no difference any more: %s", key, meant.why)
		}
	}
	t.Logf("%d comparisons of %d generated quotes and %d of the vectors, of which ours accepts %d; %d kinds of difference as meant",
		compared, own, len(captured), accepted, len(seen))
}
