package eventlog_test

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// notPassing names the rows of the manifest that this package does not judge as
// the manifest says, each with the reason. It is empty, and a row that starts to
// pass has to leave it.
var notPassing = map[string]string{}

// TestVectors judges every event log of the manifest: verdict, code and facts.
func TestVectors(t *testing.T) {
	dir := vectors(t)
	rows := manifest(t, dir, "eventlog")
	ran := 0
	for _, row := range rows {
		name := row.path + "/" + row.context["check"] + "/" + row.verdict
		t.Run(name, func(t *testing.T) {
			if why, ok := notPassing[name]; ok {
				t.Skip(why)
			}
			raw, err := os.ReadFile(filepath.Join(dir, row.path))
			if err != nil {
				t.Fatal(err)
			}
			ran++
			got := judge(t, dir, row, raw)
			if row.verdict == "accept" && got != nil {
				t.Fatalf("refused: %v", got)
			}
			if row.verdict == "reject" && reason.Of(got) != reason.Code(row.code) {
				t.Fatalf("got %v, want %s", got, row.code)
			}
		})
	}
	t.Logf("%d of %d rows ran", ran, len(rows))
	if ran < 47 {
		t.Errorf("only %d rows ran", ran)
	}
}

// judge does what the row's check names and compares the facts that must come
// out.
func judge(t *testing.T, dir string, row vector, raw []byte) error {
	t.Helper()
	log, err := eventlog.Parse(raw)
	if err != nil {
		return err
	}
	replayed := log.Replay()
	quoted := map[int][]byte{}
	for i, v := range replayed {
		quoted[i] = v
	}
	if name := row.context["pcrs"]; name != "" {
		quoted = publishedPCRs(t, filepath.Join(dir, name))
	}
	explained, err := log.Explain(quoted)
	if err != nil {
		return err
	}
	if want := row.context["replay"]; want != "" {
		h := sha256.New()
		for _, v := range replayed {
			h.Write(v)
		}
		if got := hex.EncodeToString(h.Sum(nil)); got != want {
			t.Errorf("replay = %s, want %s", got, want)
		}
	}
	for _, f := range explained.Findings() {
		t.Logf("finding pcr=%d %s %s", f.PCR, f.Code, f.Detail)
	}
	if row.context["check"] != "secure_boot" {
		return nil
	}
	if want := row.context["secure_boot"]; want != "" && explained.SecureBoot() != want {
		t.Errorf("secure boot = %s, want %s (%v)", explained.SecureBoot(), want, explained.SecureBootUnproved())
	}
	return explained.SecureBootUnproved()
}

type vector struct {
	path, verdict, code string
	context             map[string]string
}

func vectors(tb testing.TB) string {
	tb.Helper()
	dir := os.Getenv("ZONEBROKER_VECTORS")
	if dir == "" {
		root, err := os.Getwd()
		if err != nil {
			tb.Fatal(err)
		}
		for {
			if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
				break
			}
			if root == filepath.Dir(root) {
				tb.Fatal("no go.mod above the test's folder")
			}
			root = filepath.Dir(root)
		}
		dir = filepath.Join(root, "..", "shared", "vectors")
	}
	dir = filepath.Join(dir, "tpm")
	if _, err := os.Stat(dir); err != nil {
		tb.Skip("no test vectors: set ZONEBROKER_VECTORS to the folder that holds them")
	}
	return dir
}

func manifest(tb testing.TB, dir, kind string) []vector {
	tb.Helper()
	f, err := os.Open(filepath.Join(dir, "MANIFEST.tsv"))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	var rows []vector
	for s := bufio.NewScanner(f); s.Scan(); {
		c := strings.Split(s.Text(), "\t")
		if c[1] != kind {
			continue
		}
		v := vector{path: c[0], verdict: c[2], code: c[3], context: map[string]string{}}
		for pair := range strings.SplitSeq(c[4], ";") {
			key, value, _ := strings.Cut(pair, "=")
			v.context[key] = value
		}
		rows = append(rows, v)
	}
	return rows
}

var yamlPCR = regexp.MustCompile(`^\s+(\d+)\s*: 0x([0-9a-fA-F]+)`)

// publishedPCRs reads the SHA-256 values that were published beside a log, in
// the three forms that occur: JSON (with or without banks), the YAML of
// tpm2_eventlog, one hex line a PCR.
func publishedPCRs(t *testing.T, path string) map[int][]byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := map[string]string{}
	switch filepath.Ext(path) {
	case ".json":
		var banks struct{ SHA256 map[string]string }
		if json.Unmarshal(raw, &banks) != nil || banks.SHA256 == nil {
			if err := json.Unmarshal(raw, &banks.SHA256); err != nil {
				t.Fatal(err)
			}
		}
		text = banks.SHA256
	case ".yaml":
		_, bank, _ := strings.Cut(string(raw), "sha256:\n")
		for line := range strings.Lines(bank) {
			m := yamlPCR.FindStringSubmatch(line)
			if m == nil {
				break
			}
			text[m[1]] = m[2]
		}
	default:
		for i, line := range strings.Fields(string(raw)) {
			text[strconv.Itoa(i)] = line
		}
	}
	out := map[int][]byte{}
	for k, v := range text {
		i, err := strconv.Atoi(k)
		if err != nil {
			t.Fatal(err)
		}
		if out[i], err = hex.DecodeString(v); err != nil {
			t.Fatal(err)
		}
	}
	if len(out) == 0 {
		t.Fatalf("%s holds no SHA-256 PCR", path)
	}
	return out
}
