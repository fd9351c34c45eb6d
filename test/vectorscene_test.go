package test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	imabuild "github.com/zonebroker/zonebroker/verifier/ima/build"
)

// writeVectors makes what the examples of conformance judge: a log that is as
// its manifest says, a cut one that is not, and a line that calls that meant.
func writeVectors(t *testing.T, scene string) {
	t.Helper()
	dir := filepath.Join(scene, "vectors", "tpm")
	must(t, os.MkdirAll(dir, 0o755))
	log := build.Machine{}.Log().Bytes()
	for name, content := range map[string]string{
		"good.bin": string(log),
		"cut.bin":  string(log[:len(log)-1]),
		"MANIFEST.tsv": "path\tkind\tverdict\tcode\tcontext\n" +
			"good.bin\teventlog\taccept\t\tbank=sha256;check=replay\n" +
			"cut.bin\teventlog\taccept\t\tbank=sha256;check=replay\n",
	} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	meant := "path\tcontext\twanted\tours\treason\n" +
		"cut.bin\tbank=sha256;check=replay\taccept\teventlog.truncated\tthe manifest calls half a record fine\n"
	must(t, os.WriteFile(filepath.Join(scene, "meant.tsv"), []byte(meant), 0o600))
	writeRaw(t, scene)
}

// writeRaw makes what the examples of inspect decode.
func writeRaw(t *testing.T, scene string) {
	t.Helper()
	p := evidencetest.New(t)
	evidencetest.NewMaker(t).Endorse(t, p)
	attest, _ := p.Quote(t, evidencetest.Selection, []byte("nonce"))
	pcrs := map[string]string{}
	for i, v := range p.Values(evidencetest.Selection) {
		pcrs[strconv.Itoa(i)] = hex.EncodeToString(v)
	}
	values, err := json.Marshal(pcrs)
	must(t, err)
	list := imabuild.New(imabuild.File("/usr/bin/true", []byte("true")), imabuild.Violation("/tmp/x"))
	for name, content := range map[string][]byte{
		"today.bin": p.EventLog, "yesterday.bin": build.Machine{KernelVersion: "6.1.0-1-other"}.Log().Bytes(), "pcrs.json": values,
		"list.bin": list.Bytes(), "ek.crt": p.EKCertificate, "quote.bin": attest, "ak.pub": p.AK.Public,
	} {
		must(t, os.WriteFile(filepath.Join(scene, name), content, 0o600))
	}
}
