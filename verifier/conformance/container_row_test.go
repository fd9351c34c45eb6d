package conformance_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
)

// containers adds Trustee's two layouts of a machine to its files, and the newer
// one without its VCEK.
func containers(t *testing.T, files map[string]string) {
	t.Helper()
	numbers := func(s string) []int {
		out := make([]int, len(s))
		for i := range len(s) {
			out[i] = int(s[i])
		}
		return out
	}
	put := func(name string, v any) {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(raw)
	}
	var quoted map[string]string
	if err := json.Unmarshal([]byte(files["pcrs"]), &quoted); err != nil {
		t.Fatal(err)
	}
	var inHex []string
	var listed [][]int
	for i := range 24 {
		value := quoted[strconv.Itoa(i)]
		if value == "" {
			value = strings.Repeat("00", 32)
		}
		raw, err := hex.DecodeString(value)
		if err != nil {
			t.Fatal(err)
		}
		inHex, listed = append(inHex, value), append(listed, numbers(string(raw)))
	}
	newer := map[string]any{
		"version": 2, "hcl_report": base64.URLEncoding.EncodeToString([]byte(files["hcl"])),
		"tpm_quote": map[string]any{"message": hex.EncodeToString([]byte(files["quote"])), "signature": hex.EncodeToString([]byte(files["raw"])), "pcrs": inHex},
		"vcek":      base64.URLEncoding.EncodeToString([]byte(files["vcek"])),
	}
	put("newer", newer)
	newer["vcek"] = nil
	put("bare", newer)
	put("older", map[string]any{
		"report": numbers(files["hcl"]), "vcek": pemOf("CERTIFICATE", []byte(files["vcek"])),
		"quote": map[string]any{"message": numbers(files["quote"]), "signature": numbers(files["raw"]), "pcrs": listed},
	})
}

// TestContainersOfTrustee: both layouts are read, and what a row names beside the
// file goes before what is inside (test PKI).
func TestContainersOfTrustee(t *testing.T) {
	files, stranger := newAzureRow(t), newAzureRow(t)
	files["other"] = stranger["vcek"]
	containers(t, files)
	const base = atNoon + ";container=trustee;roots=amd.pem"
	for _, c := range []struct{ path, context, want string }{
		{"newer", ";qualifying=" + nonce, "accept"},
		{"older", ";qualifying=" + nonce, "accept"},
		{"older", "", "accept"},
		{"newer", ";qualifying=00", "tpm2.quote.nonce_mismatch"},
		{"newer", ";vcek=other", "snp.untrusted"},
		{"newer", ";vcek=none", "azure.hardware_missing"},
		{"bare", "", "azure.hardware_missing"},
		{"bare", ";vcek=vcek", "accept"},
		{"bare", ";vcek=gone", "broken"},
		{"junk", "", "broken"},
	} {
		if got := verdict(t, "azure.cvm", c.path, base+c.context, c.want, files); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.path, c.context, got, c.want)
		}
	}
}
