package tpm2collect_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"

	tpm2collect "github.com/zonebroker/zonebroker/broker/agent/collect/tpm2"
)

// gceTemplate is the shape of Google's: a restricted RSA signer with a policy and a
// unique value that ours do not have.
func gceTemplate() []byte {
	return tpm2.Marshal(tpm2.TPMTPublic{
		Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true,
			UserWithAuth: true, NoDA: true, Restricted: true, SignEncrypt: true,
		},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{
			Scheme: tpm2.TPMTRSAScheme{
				Scheme:  tpm2.TPMAlgRSASSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256}),
			},
			KeyBits: 2048,
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: bytes.Repeat([]byte{0x47}, 256)}),
	})
}

func TestNVIsWrittenAndRead(t *testing.T) {
	tpm := startTPM(t, "").open(t, tpm2collect.Config{})
	const index = 0x01400002
	if data, err := tpm.ReadNV(t.Context(), index, 64); err != nil || data != nil {
		t.Fatalf("an index that does not exist: %x, %v", data, err)
	}
	for _, fill := range []byte{1, 2} {
		want := bytes.Repeat([]byte{fill}, 64)
		if err := tpm.WriteNV(t.Context(), index, want); err != nil {
			t.Fatal(err)
		}
		if data, err := tpm.ReadNV(t.Context(), index, 64); err != nil || !bytes.Equal(data, want) {
			t.Errorf("%x, %v", data, err)
		}
	}
	if err := tpm.WriteNV(t.Context(), index, make([]byte, 65)); err == nil {
		t.Error("65 bytes went into an index of 64")
	}
	if _, err := tpm.ReadNV(t.Context(), index, 63); err == nil {
		t.Error("64 bytes came out where 63 were allowed")
	}
	long := bytes.Repeat([]byte("0123456789abcdef"), 75) // more than one command takes
	if err := tpm.WriteNV(t.Context(), index+1, long); err != nil {
		t.Fatal(err)
	}
	if data, err := tpm.ReadNV(t.Context(), index+1, 2048); err != nil || !bytes.Equal(data, long) {
		t.Errorf("%d bytes, %v", len(data), err)
	}
}

// A key that a cloud vouches for quotes and certifies as our own does.
func TestGoogleKeyQuotesAndCertifies(t *testing.T) {
	s := startTPM(t, "")
	tpm := s.open(t, tpm2collect.Config{})
	if certificate, err := tpm.AKCertificate(t.Context()); err != nil || certificate != nil {
		t.Fatalf("%x, %v", certificate, err)
	}
	certificate := append([]byte{0x30, 0x82, 0x00, 0x05}, "fives"...)
	for index, data := range map[uint32][]byte{0x01c10000: certificate, 0x01c10001: gceTemplate()} {
		if err := tpm.WriteNV(t.Context(), index, data); err != nil {
			t.Fatal(err)
		}
	}
	own, err := tpm.AK(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tpm.Close()
	cloud := s.open(t, tpm2collect.Config{AK: tpm2collect.GCE})
	if got, err := cloud.AKCertificate(t.Context()); err != nil || !bytes.Equal(got, certificate) {
		t.Errorf("%x, %v", got, err)
	}
	usable(t, cloud, own)
}

// Azure's key is persistent: it is used where it is and stays there.
func TestParavisorKeyQuotesAndStays(t *testing.T) {
	s := startTPM(t, "")
	own := s.open(t, tpm2collect.Config{})
	before, err := own.AK(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	own.Close()
	raw := s.raw(t)
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](gceTemplate())
	if err != nil {
		t.Fatal(err)
	}
	made, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}, InPublic: tpm2.New2B(*public),
	}.Execute(raw)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (tpm2.EvictControl{
		Auth:             tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		ObjectHandle:     &tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name},
		PersistentHandle: 0x81000003,
	}).Execute(raw); err != nil {
		t.Fatal(err)
	}
	raw.Close()
	for range 2 { // the second time it has to be there still
		cloud := s.open(t, tpm2collect.Config{AK: tpm2collect.AzureHCL})
		ak := usable(t, cloud, before)
		if !bytes.Equal(ak.Name, made.Name.Buffer) {
			t.Errorf("another key than the persistent one: %x", ak.Name)
		}
		if err := cloud.Close(); err != nil {
			t.Error(err)
		}
	}
}

// usable quotes and certifies with the AK of tpm, which has to be another than own.
func usable(t *testing.T, tpm *tpm2collect.TPM, own tpm2collect.AK) tpm2collect.AK {
	t.Helper()
	ak, err := tpm.AK(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(ak.Name, own.Name) {
		t.Error("it is the key that is made without a cloud")
	}
	if spki, err := ak.SPKI(); err != nil || len(spki) == 0 {
		t.Errorf("%x, %v", spki, err)
	}
	q, err := tpm.Quote(t.Context(), [3]byte{0xff}, []byte("bound"))
	if err != nil || !bytes.Contains(q.Attest, []byte("bound")) {
		t.Errorf("quote: %x, %v", q.Attest, err)
	}
	if c, err := tpm.Certify(t.Context(), []byte("bound")); err != nil || !bytes.Contains(c.Attest, []byte("bound")) {
		t.Errorf("certify: %x, %v", c.Attest, err)
	}
	return ak
}

func TestTPMWithoutACloudsKey(t *testing.T) {
	s := startTPM(t, "")
	for _, kind := range []tpm2collect.Kind{tpm2collect.GCE, tpm2collect.AzureHCL} {
		tpm := s.open(t, tpm2collect.Config{AK: kind})
		_, err := tpm.AK(t.Context())
		if err == nil {
			t.Errorf("%s: a key", kind)
		}
		if e, ok := errors.AsType[*tpm2collect.Error](err); kind == tpm2collect.GCE && (!ok || e.Fix == "") {
			t.Errorf("%s: %v", kind, err)
		}
		tpm.Close()
	}
}
