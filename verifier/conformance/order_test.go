package conformance_test

import (
	"crypto/elliptic"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/documenttest"
)

// documents are genuine ones that default policy refuses, and what they stand on
// (test PKIs).
func documents(t *testing.T) map[string]string {
	t.Helper()
	aws, err := documenttest.NewNitroPKI(rowTime)
	if err != nil {
		t.Fatal(err)
	}
	zero := make([]byte, 48)
	enclave, err := aws.Document(documenttest.NitroFields{Nonce: []byte("n"), PCRs: map[int][]byte{0: zero, 1: zero, 2: zero}})
	if err != nil {
		t.Fatal(err)
	}
	intel := documenttest.NewIntelPKI(rowTime)
	arm, err := documenttest.NewCCAMachine(elliptic.P256())
	if err != nil {
		t.Fatal(err)
	}
	cpak, err := arm.PEM()
	if err != nil {
		t.Fatal(err)
	}
	realm, err := arm.Token(documenttest.CCAFields{Platform: func(m map[any]any) { m[documenttest.CCALifecycle] = 0x4000 }})
	if err != nil {
		t.Fatal(err)
	}
	old := documenttest.TDXFields{EditBody: func(b []byte) { b[0] = 2 }}
	gpu := documenttest.NewNVIDIAPKI(rowTime)
	return map[string]string{
		"enclave": string(enclave), "aws.pem": string(aws.RootPEM()),
		"debug": string(intel.Quote(documenttest.TDXFields{Debug: true})), "old": string(intel.Quote(old)), "td": string(intel.Quote(documenttest.TDXFields{})),
		"intel.pem": string(intel.RootPEM()), "collateral": string(intel.Collateral(documenttest.CollateralFields{})),
		"realm": string(realm), "cpak.pem": string(cpak),
		"gpu": string(documenttest.GPUEvidence(gpu.Device(documenttest.GPUFields{}))), "gpu.pem": string(gpu.RootPEM()),
	}
}

// TestPolicyComesBeforeTheNonce: what a genuine document is refused for by default
// goes before the nonce, REPORTDATA or challenge that the row asks for (order of
// the reference). A word that is no hex is one that no document carries.
func TestPolicyComesBeforeTheNonce(t *testing.T) {
	files := documents(t)
	const tdx, nitro, cca = ";roots=intel.pem;collateral=collateral", ";roots=aws.pem", ";keys=cpak.pem"
	other := strings.Repeat("ab", 64)
	for _, c := range []struct{ kind, path, context, want string }{
		{"nitro", "enclave", nitro + ";nonce=" + hex.EncodeToString([]byte("n")), "nitro.debug"},
		{"nitro", "enclave", nitro + ";nonce=" + other, "nitro.debug"},
		{"nitro", "enclave", nitro, "nitro.debug"},
		{"nitro", "enclave", nitro + ";type=instance;nonce=" + other, "nitro.type"},
		{"tdx", "debug", tdx + ";report_data=" + other, "tdx.debug"},
		{"tdx", "debug", tdx, "tdx.debug"},
		{"tdx", "old", tdx + ";report_data=" + other, "tdx.tcb_status"},
		{"tdx", "td", tdx + ";report_data=" + other, "tdx.report_data"},
		{"tdx", "td", tdx + ";report_data=x", "tdx.report_data"},
		{"tdx", "td", tdx + ";qualifying=", "tdx.report_data"},
		{"tdx", "td", tdx + ";report_data=" + strings.Repeat("00", 64), "accept"},
		{"cca", "realm", cca + ";nonce=" + other, "cca.lifecycle"},
		{"cca", "realm", cca + ";nonce=x", "cca.lifecycle"},
		{"nvidia", "gpu", ";roots=gpu.pem;nonce=" + other, "nvidia.nonce_mismatch"},
		{"nvidia", "gpu", ";roots=gpu.pem;nonce=x", "nvidia.nonce_mismatch"},
		{"nvidia", "gpu", ";roots=gpu.pem", "nvidia.rim_missing"},
	} {
		if got := verdict(t, c.kind, c.path, atNoon+c.context, c.want, files); got != c.want {
			t.Errorf("%s %s %s: %s, want %s", c.kind, c.path, c.context, got, c.want)
		}
	}
}
