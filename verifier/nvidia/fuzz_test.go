package nvidia_test

import (
	"bytes"
	"encoding/base64"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/nvidia"
)

// FuzzVerify: in either form nothing verifies but what was signed, and nothing is
// allocated because bytes claim it.
func FuzzVerify(f *testing.F) {
	pki := documenttest.NewNVIDIAPKI(noon)
	device := pki.Device(documenttest.GPUFields{Nonce: nonce})
	e := newEAT()
	keys, err := jwt.ParseKeys(e.service.JWKS())
	if err != nil {
		f.Fatal(err)
	}
	issuers, err := jwt.NewIssuers(nvidia.Profile(), []jwt.Settings{{Name: "nras", Issuer: e.issuer, Keys: keys}})
	if err != nil {
		f.Fatal(err)
	}
	trust, err := nvidia.NewTrust([][]byte{pki.RootPEM()}, nil, issuers)
	if err != nil {
		f.Fatal(err)
	}
	bundle := e.bundle()
	f.Add(documenttest.GPUEvidence(device))
	f.Add(bundle)
	f.Add([]byte(`[["JWT","a.b.c"],{"GPU-0":"a.b.c"}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var got nvidia.Evidence
		var err error
		evidencetest.Bounded(t, len(b), 512, func() { got, err = nvidia.Verify(b, nvidia.Expectation{Nonce: nonce[:]}, trust, noon) })
		if err != nil {
			return
		}
		signed := bytes.Contains(b, []byte(device.Evidence)) || bytes.Contains(b, bundle[10:200])
		if !signed && got.Facts().NonceBound {
			t.Errorf("evidence that nobody signed verifies: %s", b)
		}
	})
}

// FuzzReport: the parser of SPDM messages, behind base64 and a good chain, where
// mutations of the JSON seldom lead.
func FuzzReport(f *testing.F) {
	pki := documenttest.NewNVIDIAPKI(noon)
	device := pki.Device(documenttest.GPUFields{Nonce: nonce})
	good, err := base64.StdEncoding.DecodeString(device.Evidence)
	if err != nil {
		f.Fatal(err)
	}
	trust, err := nvidia.NewTrust([][]byte{pki.RootPEM()}, nil, jwt.Issuers{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:45])
	f.Fuzz(func(t *testing.T, b []byte) {
		device.Evidence = base64.StdEncoding.EncodeToString(b)
		_, err := nvidia.Verify(documenttest.GPUEvidence(device), nvidia.Expectation{Nonce: nonce[:]}, trust, noon)
		if err == nil && !bytes.Equal(b[:len(b)-96], good[:len(good)-96]) {
			t.Errorf("messages that nobody signed verify: %x", b)
		}
	})
}
