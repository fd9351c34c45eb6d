package nitro_test

import (
	"bytes"
	"crypto/elliptic"
	"encoding/pem"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/nitro"
)

var (
	noon  = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	nonce = bytes.Repeat([]byte{0x5a}, 32)
)

// lab is a test PKI of the shape of AWS's with its trust.
type lab struct {
	*documenttest.NitroPKI
	trust nitro.Trust
}

func newLab(t testing.TB) lab {
	t.Helper()
	p, err := documenttest.NewNitroPKI(noon)
	must(t, err)
	return lab{p, trusting(t, p)}
}

func trusting(t testing.TB, p *documenttest.NitroPKI) nitro.Trust {
	t.Helper()
	trust, err := nitro.NewTrust(p.RootPEM())
	must(t, err)
	return trust
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (l lab) document(t testing.TB, f documenttest.NitroFields) []byte {
	t.Helper()
	raw, err := l.Document(f)
	must(t, err)
	return raw
}

// wanted is what a good document of these fields is judged against.
func wanted(f documenttest.NitroFields) nitro.Expectation {
	want := nitro.Expectation{Nonce: nonce}
	if f.Instance {
		want.Type = nitro.Instance
	}
	return want
}

var p256, p384 = elliptic.P256(), elliptic.P384()

func inPEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
