package tpm2collect_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-tpm/tpm2"

	tpm2collect "github.com/zonebroker/zonebroker/broker/agent/collect/tpm2"
)

// bus stands between the product and a TPM and keeps every byte that passes, as
// a probe on the pins of a chip does.
type bus struct {
	socket string
	mu     sync.Mutex
	heard  bytes.Buffer
}

func (b *bus) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.heard.Write(p)
}

func (b *bus) carries(secret []byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Contains(b.heard.Bytes(), secret)
}

func listenOnBus(t *testing.T, tpm *software) *bus {
	t.Helper()
	b := &bus{socket: filepath.Join(stateDir(t), "bus.sock")}
	listener, err := net.Listen("unix", b.socket)
	if err != nil {
		t.Fatal(err)
	}
	var relays sync.WaitGroup
	t.Cleanup(func() { listener.Close(); relays.Wait() })
	relays.Go(func() {
		for {
			host, err := listener.Accept()
			if err != nil {
				return
			}
			b.relay(t, host, tpm.socket)
		}
	})
	return b
}

// relay serves one connection, which carries one command.
func (b *bus) relay(t *testing.T, host net.Conn, socket string) {
	defer host.Close()
	chip, err := net.Dial("unix", socket)
	if err != nil {
		t.Error(err)
		return
	}
	defer chip.Close()
	var back sync.WaitGroup
	back.Go(func() { io.Copy(host, io.TeeReader(chip, b)) })
	io.Copy(chip, io.TeeReader(host, b))
	chip.Close()
	back.Wait()
}

// TestSecretsDoNotCrossTheBus: neither the nonce of an enrolment nor the auth
// value of the SVID key can be read between processor and TPM.
func TestSecretsDoNotCrossTheBus(t *testing.T) {
	tpm := startTPM(t, "")
	b := listenOnBus(t, tpm)
	rotation := []byte("a rotation value")
	for _, kind := range []tpm2collect.Kind{tpm2collect.RSA, tpm2collect.P256, tpm2collect.RSAHigh, tpm2collect.P384} {
		host, err := tpm2collect.Open(t.Context(), tpm2collect.Config{Device: "swtpm:" + b.socket, EK: kind, Rotation: rotation})
		if err != nil {
			t.Fatal(err)
		}
		ek, err := host.EK(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ak, err := host.AK(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		secret := sha256.Sum256([]byte("nonce for " + kind))
		blob, encrypted := credential(t, ek.Public, ak.Name, secret[:])
		got, err := host.Activate(t.Context(), blob, encrypted)
		if err != nil || !bytes.Equal(got, secret[:]) {
			t.Fatalf("%s: %x, %v", kind, got, err)
		}
		if _, err := host.SVIDKey(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := host.Certify(t.Context(), []byte("bound")); err != nil {
			t.Fatal(err)
		}
		if b.carries(secret[:]) {
			t.Errorf("%s: the secret of the credential crossed the bus in the clear", kind)
		}
		if !b.carries(blob) || !b.carries(ak.Public) {
			t.Fatalf("%s: the bus did not hear the commands", kind)
		}
		if err := host.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if b.carries(tpm2collect.SVIDPassword(rotation)) {
		t.Error("the auth value of the SVID key crossed the bus in the clear")
	}
}

// TestSVIDKeyWantsItsAuth: on a TPM without resource manager every program finds
// the loaded key, and only the agent can use it.
func TestSVIDKeyWantsItsAuth(t *testing.T) {
	tpm := startTPM(t, "")
	host := tpm.open(t, tpm2collect.Config{Rotation: []byte("a")})
	key, err := host.SVIDKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	raw := tpm.raw(t)
	rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: 0x80000000, PropertyCount: 16}.Execute(raw)
	if err != nil {
		t.Fatal(err)
	}
	handles, err := rsp.CapabilityData.Data.Handles()
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("x"))
	sign := func(handle tpm2.TPMHandle, session tpm2.Session) error {
		public, err := tpm2.ReadPublic{ObjectHandle: handle}.Execute(raw)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(public.OutPublic.Bytes(), key.Raw()) {
			return errors.New("another key")
		}
		_, err = tpm2.Sign{
			KeyHandle:  tpm2.AuthHandle{Handle: handle, Name: public.Name, Auth: session},
			Digest:     tpm2.TPM2BDigest{Buffer: digest[:]},
			InScheme:   tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
			Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull},
		}.Execute(raw)
		return err
	}
	found := false
	for _, handle := range handles.Handle {
		if err := sign(handle, tpm2.PasswordAuth(nil)); errors.Is(err, tpm2.TPMRCBadAuth) {
			found = true
			if err := sign(handle, tpm2.PasswordAuth(tpm2collect.SVIDPassword([]byte("b")))); !errors.Is(err, tpm2.TPMRCBadAuth) {
				t.Errorf("another rotation value signs: %v", err)
			}
			if err := sign(handle, tpm2.PasswordAuth(tpm2collect.SVIDPassword([]byte("a")))); err != nil {
				t.Errorf("its own auth value does not sign: %v", err)
			}
		}
	}
	if !found {
		t.Error("no loaded SVID key refuses the empty password")
	}
}

// TestAnyRotationGivesAUsableKey: the auth value of some would hold a zero byte
// if it were the digest itself, and libraries cut those.
func TestAnyRotationGivesAUsableKey(t *testing.T) {
	tpm := startTPM(t, "")
	for i := range byte(40) {
		host := tpm.open(t, tpm2collect.Config{Rotation: []byte{i}})
		if _, err := host.Certify(t.Context(), []byte("bound")); err != nil {
			t.Errorf("rotation %d: %v", i, err)
		}
		if err := host.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
