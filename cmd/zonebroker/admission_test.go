package main

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestEKHashOf: the forms in which a key is handed around lead to one hash.
func TestEKHashOf(t *testing.T) {
	for name, ek := range map[string]*evidencetest.EK{"ecc": evidencetest.NewEK(t), "rsa": evidencetest.RSAEK(t)} {
		root := ek.RootHash(t)
		want := hex.EncodeToString(root[:])
		der := ek.SPKI(t)
		sized := append(binary.BigEndian.AppendUint16(nil, uint16(len(ek.Public))), ek.Public...)
		for form, content := range map[string][]byte{
			"der":        der,
			"pem":        pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
			"der base64": []byte(base64.StdEncoding.EncodeToString(der) + "\n"),
			"tpmt":       ek.Public,
			"tpmt base64 in lines": []byte(base64.StdEncoding.EncodeToString(ek.Public)[:60] + "\n" +
				base64.StdEncoding.EncodeToString(ek.Public)[60:] + "\n"),
			"tpm2b": sized,
		} {
			path := filepath.Join(t.TempDir(), "ek")
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := ekHashOf(path); err != nil || got != want {
				t.Errorf("%s, %s: %s, %v; want %s", name, form, got, err, want)
			}
		}
	}
	for name, content := range map[string]string{"empty": "", "text": "hello", "a short size": "\x00\x01x"} {
		path := filepath.Join(t.TempDir(), "ek")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := ekHashOf(path); err == nil {
			t.Errorf("%s: %s", name, got)
		}
	}
	if _, err := ekHashOf(filepath.Join(t.TempDir(), "nowhere")); err == nil {
		t.Error("a file that is not there has a hash")
	}
}

// TestEKHashOfAWeakKey: nobody admits by accident a key that can be factored.
func TestEKHashOfAWeakKey(t *testing.T) {
	ek := evidencetest.FactorableEK(t)
	for form, content := range map[string][]byte{"der": ek.SPKI(t), "tpmt": ek.Public} {
		path := filepath.Join(t.TempDir(), "ek")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := ekHashOf(path); got != "" || reason.Of(err) != reason.EKCertWeakKey || !strings.Contains(err.Error(), "CVE-2017-15361") {
			t.Errorf("%s: %q, %v", form, got, err)
		}
	}
}
