package ima_test

import (
	"bufio"
	"encoding/hex"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/ima"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestVectors judges every list of the manifest: verdict, code and facts.
func TestVectors(t *testing.T) {
	dir := os.Getenv("ZONEBROKER_VECTORS")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "vectors")
	}
	dir = filepath.Join(dir, "tpm")
	f, err := os.Open(filepath.Join(dir, "MANIFEST.tsv"))
	if err != nil {
		t.Skip("no test vectors: set ZONEBROKER_VECTORS to the folder that holds them")
	}
	defer f.Close()
	ran := 0
	for s := bufio.NewScanner(f); s.Scan(); {
		c := strings.Split(s.Text(), "\t")
		if c[1] != "ima" {
			continue
		}
		ran++
		context := map[string]string{}
		for pair := range strings.SplitSeq(c[4], ";") {
			key, value, _ := strings.Cut(pair, "=")
			context[key] = value
		}
		t.Run(c[0]+"/"+context["check"], func(t *testing.T) {
			raw, err := os.ReadFile(filepath.Join(dir, c[0]))
			if err != nil {
				t.Fatal(err)
			}
			got := judgeVector(t, raw, context)
			if string(reason.Of(got)) != c[3] {
				t.Errorf("%v, want %q", got, c[3])
			}
		})
	}
	t.Logf("%d rows ran", ran)
	if ran < 11 {
		t.Errorf("only %d rows ran", ran)
	}
}

func judgeVector(t *testing.T, raw []byte, context map[string]string) error {
	t.Helper()
	list, err := ima.Parse(raw)
	if err != nil {
		return err
	}
	if context["check"] == "appraise" {
		return list.Appraise()
	}
	r := list.Replay(ima.Bank(context["bank"]))
	if got := strconv.Itoa(r.Entries); got != context["entries"] {
		t.Errorf("%s entries, want %s", got, context["entries"])
	}
	if got := strconv.Itoa(r.Violations); got != context["violations"] {
		t.Errorf("%s violations, want %s", got, context["violations"])
	}
	if got := hex.EncodeToString(r.PCR10); got != context["pcr.10"] {
		t.Errorf("PCR 10 is %s, want %s", got, context["pcr.10"])
	}
	return nil
}
