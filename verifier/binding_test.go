package verifier_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/zonebroker/zonebroker/verifier"
)

// vectors returns the folder of the shared vectors, or skips with a sentence.
func vectors(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("ZONEBROKER_VECTORS")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "vectors")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no vectors: %s is absent; set ZONEBROKER_VECTORS to run these cases", dir)
	}
	return dir
}

func TestBindingVectors(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(vectors(t), "binding.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Vectors []struct {
			Name, Nonce, SPKI, Purpose, Format, Context, SHA256 string
			TrustDomain                                         string `json:"trust_domain"`
		}
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, v := range file.Vectors {
		t.Run(v.Name, func(t *testing.T) {
			got := verifier.Binding(unhex(v.Nonce), unhex(v.SPKI), v.TrustDomain, v.Purpose, v.Format, unhex(v.Context))
			if hex.EncodeToString(got[:]) != v.SHA256 {
				t.Errorf("binding = %x, want %s", got, v.SHA256)
			}
		})
	}
	if len(file.Vectors) == 0 {
		t.Fatal("binding.json holds no vectors")
	}
	t.Logf("%d binding vectors ran", len(file.Vectors))
}

// TestT47_BindingChangesWithEveryMember swaps each member in turn: evidence made
// for one must not fit another.
func TestT47_BindingChangesWithEveryMember(t *testing.T) {
	type in struct{ nonce, spki, td, purpose, format, context string }
	base := in{"nonce", "spki", "example.org", "renew", "tpm2", ""}
	hash := func(i in) [32]byte {
		return verifier.Binding([]byte(i.nonce), []byte(i.spki), i.td, i.purpose, i.format, []byte(i.context))
	}
	seen := map[[32]byte]string{hash(base): "the base"}
	for name, i := range map[string]in{
		"nonce":                         {"other", "spki", "example.org", "renew", "tpm2", ""},
		"key":                           {"nonce", "other", "example.org", "renew", "tpm2", ""},
		"trust domain":                  {"nonce", "spki", "example.com", "renew", "tpm2", ""},
		"purpose":                       {"nonce", "spki", "example.org", "enrol", "tpm2", ""},
		"format":                        {"nonce", "spki", "example.org", "renew", "tpm2.lab", ""},
		"context":                       {"nonce", "spki", "example.org", "renew", "tpm2", "rp"},
		"bytes moved across a boundary": {"nonce", "spki", "example.orgr", "enew", "tpm2", ""},
	} {
		h := hash(i)
		if other, ok := seen[h]; ok {
			t.Errorf("changing %s gives the binding of %s", name, other)
		}
		seen[h] = name
	}
}
