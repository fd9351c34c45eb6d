package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/broker/claim"
)

// TestIssuerURL: where readers of OIDC go, and the names that the TLS
// certificate has for them.
func TestIssuerURL(t *testing.T) {
	for name, tt := range map[string]struct {
		issuer, listen, address string
		want                    string
		names                   []string
	}{
		"the listener":     {"", "127.0.0.1:0", "127.0.0.1:8443", "https://127.0.0.1:8443", []string{"127.0.0.1"}},
		"a host name":      {"", "broker.lan:8443", "10.0.0.7:8443", "https://10.0.0.7:8443", []string{"broker.lan"}},
		"IPv6":             {"", "[::1]:8443", "[::1]:8443", "https://[::1]:8443", []string{"::1"}},
		"all addresses":    {"", "0.0.0.0:8443", "0.0.0.0:8443", "https://localhost:8443", []string{"localhost"}},
		"all of IPv6":      {"", ":8443", "[::]:8443", "https://localhost:8443", []string{"localhost"}},
		"configured":       {"https://id.example.org", ":8443", "[::]:8443", "https://id.example.org", []string{"localhost", "id.example.org"}},
		"with port and so": {"https://id.example.org:444/zb", "10.0.0.7:1", "10.0.0.7:1", "https://id.example.org:444/zb", []string{"10.0.0.7", "id.example.org"}},
	} {
		c := config{OIDCIssuer: tt.issuer, Listen: tt.listen}
		if got := c.issuerURL(tt.address); got != tt.want || !claim.ValidIssuer(got) {
			t.Errorf("%s: issuer %q, want %q", name, got, tt.want)
		}
		if diff := cmp.Diff(tt.names, c.hostNames()); diff != "" {
			t.Errorf("%s: names (-want +got):\n%s", name, diff)
		}
	}
}

func TestIssuerThatIsNone(t *testing.T) {
	for _, issuer := range []string{"http://id.example.org", "https://id.example.org/", "id.example.org", "https://id.example.org?x=1"} {
		dir := t.TempDir()
		text := "trust_domain: example.org\noidc_issuer: " + issuer + "\n"
		if err := os.WriteFile(filepath.Join(dir, configFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := loadConfig(dir); err == nil || !strings.Contains(err.Error(), "oidc_issuer") {
			t.Errorf("issuer %q: %v", issuer, err)
		}
	}
}
