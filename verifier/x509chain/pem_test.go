package x509chain_test

import (
	"bytes"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

// TestParsePEM: a chain is what its sender wrote, whole, or nothing.
func TestParsePEM(t *testing.T) {
	root := newCA(t, "Root", 1, nil)
	leaf := newCA(t, "Leaf", 2, root)
	text := func(der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	one, two := text(leaf.cert.Raw), text(root.cert.Raw)
	for name, c := range map[string]struct {
		text string
		want int
	}{
		"two":                {one + two, 2},
		"white space":        {"\n " + one + "\r\n\n" + two + " \n", 2},
		"one":                {one, 1},
		"three":              {one + two + one, 0},
		"nothing":            {"", 0},
		"white space only":   {" \n", 0},
		"text before":        {"subject=x\n" + one, 0},
		"text between":       {one + "x" + two, 0},
		"text behind":        {one + "x", 0},
		"no end":             {strings.TrimSuffix(one, "-----END CERTIFICATE-----\n"), 0},
		"a broken first":     {strings.Replace(one, "MII", "M!I", 1) + two, 0},
		"a first of two":     {"-----BEGIN CERTIFICATE-----\n" + one, 0},
		"no certificate":     {text([]byte{0x30, 0}), 0},
		"a key":              {strings.ReplaceAll(one, "CERTIFICATE", "PUBLIC KEY"), 0},
		"a large one":        {text(append(bytes.Clone(leaf.cert.Raw), make([]byte, x509chain.MaxCertificate)...)), 0},
		"bytes behind in it": {text(append(bytes.Clone(leaf.cert.Raw), 0)), 0},
	} {
		got, ok := x509chain.ParsePEM([]byte(c.text), 2)
		if len(got) != c.want || ok != (c.want > 0) || ok && !bytes.Equal(got[0].Raw, leaf.cert.Raw) {
			t.Errorf("%s: %d certificates, %v", name, len(got), ok)
		}
	}
}
