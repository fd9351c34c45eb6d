package nvidia_test

import (
	"crypto/sha512"
	"crypto/x509"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/nvidia"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestBlackwellFirmware: the certificates of Blackwell's devices name their
// firmware in a DiceTcbInfo, and its first digest is the one that counts (test PKI;
// the form is that of a published certificate of a GB20X).
func TestBlackwellFirmware(t *testing.T) {
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	pki := documenttest.NewNVIDIAPKI(at)
	trust, err := nvidia.NewTrust([][]byte{pki.RootPEM()}, nil, jwt.Issuers{})
	if err != nil {
		t.Fatal(err)
	}
	own, other := sha512.Sum384([]byte("firmware")), sha512.Sum384([]byte("other"))
	value := func(v []byte) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.ExtraExtensions[0].Value = v }
	}
	info := documenttest.GPUTCBInfo(own[:])
	for _, c := range []struct {
		name string
		edit func(*x509.Certificate)
		want reason.Code
	}{
		{"as devices have it", nil, ""},
		{"one digest", value(info), ""},
		{"other firmware", value(documenttest.GPUTCBInfo(other[:])), reason.NvidiaUntrusted},
		{"of a later stage", value(documenttest.GPUTCBInfo(other[:], own[:])), reason.NvidiaUntrusted},
		{"no digest", value(documenttest.GPUTCBInfo()), reason.NvidiaUntrusted},
		{"cut", value(info[:len(info)-4]), reason.NvidiaUntrusted},
		{"empty", value([]byte{0x30, 0}), reason.NvidiaUntrusted},
		{"no sequence", value(nil), reason.NvidiaUntrusted},
		{"no extension", func(c *x509.Certificate) { c.ExtraExtensions = nil }, reason.NvidiaUntrusted},
	} {
		raw := documenttest.GPUEvidence(pki.Device(documenttest.GPUFields{Blackwell: true, EditLeaf: c.edit}))
		_, err := nvidia.Verify(raw, nvidia.Expectation{}, trust, at)
		if got := reason.Of(err); got != c.want || (err == nil) != (c.want == "") {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
