package akcert_test

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/akcert"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

// TestVectors judges the published AK certificates, and the EK certificates that
// are offered as such.
func TestVectors(t *testing.T) {
	base := os.Getenv("ZONEBROKER_VECTORS")
	if base == "" {
		base = filepath.Join("..", "..", "..", "shared", "vectors")
	}
	ran := 0
	for _, folder := range []string{"tpm", "cloud"} {
		dir := filepath.Join(base, folder)
		manifest, err := os.ReadFile(filepath.Join(dir, "MANIFEST.tsv"))
		if err != nil {
			t.Skipf("no vectors: %s is absent; set ZONEBROKER_VECTORS to run these cases", dir)
		}
		for line := range strings.Lines(string(manifest)) {
			f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
			if len(f) < 5 || f[1] != "akcert" && f[1] != "gce.akcert" {
				continue
			}
			ran++
			t.Run(f[0]+"/"+f[2]+f[3], func(t *testing.T) { judge(t, dir, f[0], f[2], reason.Code(f[3]), f[4]) })
		}
	}
	if ran == 0 {
		t.Fatal("the manifests have no AK certificates")
	}
	t.Logf("%d certificates ran", ran)
}

func judge(t *testing.T, dir, path, verdict string, code reason.Code, context string) {
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	facts := map[string]string{}
	for pair := range strings.SplitSeq(context, ";") {
		k, v, _ := strings.Cut(pair, "=")
		facts[k] = v
	}
	now, err := time.Parse(time.RFC3339, facts["time"])
	if err != nil {
		t.Fatal(err)
	}
	var bundles [][]byte
	for name := range strings.SplitSeq(facts["roots"], ",") {
		bundles = append(bundles, read(name))
	}
	raw := read(path)
	if block, _ := pem.Decode(raw); block != nil {
		raw = block.Bytes
	}
	own, err := akcert.SubjectKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := akcert.Verify(raw, nil, own, roots(t, bundles...), akcert.Options{}, now)
	if (err == nil) != (verdict == "accept") {
		t.Errorf("verdict: %v, want %s", err, verdict)
	}
	wantCode(t, err, code)
	i := cert.Instance()
	for k, got := range map[string]string{"zone": i.Zone, "project": i.Project, "instance_id": i.ID, "instance_name": i.Name} {
		if want, ok := facts[k]; ok && got != want {
			t.Errorf("%s: %q, want %q", k, got, want)
		}
	}
	if _, err := akcert.Verify(raw, nil, own, x509chain.Roots{}, akcert.Options{}, now); verdict == "accept" {
		wantCode(t, err, reason.TPM2AKCertUntrusted)
	}
}
