package swtpm_test

import (
	"bytes"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/zonebroker/zonebroker/broker/agent/swtpm"
	"github.com/zonebroker/zonebroker/verifier/ekcert"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func endorsements(t testing.TB, m *swtpm.TPM) []swtpm.Endorsement {
	t.Helper()
	es, err := m.Endorsements()
	if err != nil {
		t.Fatal(err)
	}
	return es
}

// TestEndorsement reads the certificates from NV as an agent does, and checks
// them against the keys that the TPM makes from the templates.
func TestEndorsement(t *testing.T) {
	dir := folder(t)
	ca, err := swtpm.OpenCA(dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	m := start(t, swtpm.Config{Dir: filepath.Join(dir, "t"), CA: ca})
	c := open(t, m)
	roots, err := ekcert.NewRoots(ca.RootPEM())
	if err != nil {
		t.Fatal(err)
	}
	public := map[string]tpm2.TPMTPublic{"rsa2048": tpm2.RSAEKTemplate, "p256": tpm2.ECCEKTemplate}
	for _, e := range endorsements(t, m) {
		t.Run(e.Name, func(t *testing.T) {
			raw := readNV(t, c, e.NVIndex)
			if !bytes.Equal(raw, e.Certificate) {
				t.Fatal("NV holds another certificate")
			}
			cert, err := x509.ParseCertificate(raw)
			if err != nil {
				t.Fatal(err)
			}
			ek, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(public[e.Name])}.Execute(c)
			if err != nil {
				t.Fatal(err)
			}
			defer tpm2.FlushContext{FlushHandle: ek.ObjectHandle}.Execute(c)
			out, err := ek.OutPublic.Contents()
			if err != nil {
				t.Fatal(err)
			}
			key, err := tpm2.Pub(*out)
			if err != nil {
				t.Fatal(err)
			}
			spki, err := x509.MarshalPKIXPublicKey(key)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(spki, cert.RawSubjectPublicKeyInfo) || !bytes.Equal(spki, e.SPKI) {
				t.Error("the certificate is for another key")
			}
			lab := ekcert.Options{ExtraVendors: []string{swtpm.Manufacturer}}
			if _, err := ekcert.Verify(raw, nil, spki, roots, lab, time.Now()); err != nil {
				t.Errorf("a broker that was told CA and manufacturer refuses: %v", err)
			}
			if _, err := ekcert.Verify(raw, nil, spki, roots, ekcert.Options{}, time.Now()); reason.Of(err) != reason.EKCertVendorDenied {
				t.Errorf("tpm-60: a software TPM passes for a genuine one: %v", err)
			}
		})
	}
}

func readNV(t testing.TB, c transport.TPM, index uint32) []byte {
	t.Helper()
	pub, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(index)}.Execute(c)
	if err != nil {
		t.Fatal(err)
	}
	info, err := pub.NVPublic.Contents()
	if err != nil {
		t.Fatal(err)
	}
	var out []byte
	for len(out) < int(info.DataSize) {
		r, err := tpm2.NVRead{
			AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(index), Name: pub.NVName, Auth: tpm2.PasswordAuth(nil)},
			NVIndex:    tpm2.NamedHandle{Handle: tpm2.TPMHandle(index), Name: pub.NVName},
			Size:       min(512, info.DataSize-uint16(len(out))), Offset: uint16(len(out)),
		}.Execute(c)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r.Data.Buffer...)
	}
	return out
}

func TestWithoutCAThereIsNoCertificate(t *testing.T) {
	m := start(t, swtpm.Config{})
	for _, e := range endorsements(t, m) {
		if e.Certificate != nil || len(e.SPKI) == 0 {
			t.Errorf("%s: certificate of %d bytes, key of %d", e.Name, len(e.Certificate), len(e.SPKI))
		}
		if _, err := (tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(e.NVIndex)}).Execute(open(t, m)); err == nil {
			t.Errorf("%s: NV index is defined", e.Name)
		}
	}
}

func TestTwoTPMsShareNoKey(t *testing.T) {
	a, b := endorsements(t, start(t, swtpm.Config{})), endorsements(t, start(t, swtpm.Config{}))
	for i := range a {
		if bytes.Equal(a[i].SPKI, b[i].SPKI) {
			t.Errorf("%s: two TPMs have one key", a[i].Name)
		}
	}
}

func TestCloneHasTheSameIdentityAndClock(t *testing.T) {
	dir := folder(t)
	cfg := swtpm.Config{Dir: filepath.Join(dir, "a")}
	m := start(t, cfg)
	want := endorsements(t, m)
	if err := m.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	clone := filepath.Join(dir, "b")
	if err := swtpm.Clone(clone, cfg.Dir); err != nil {
		t.Fatal(err)
	}
	if err := swtpm.Clone(clone, cfg.Dir); err == nil {
		t.Error("a clone overwrote a TPM")
	}
	if err := swtpm.Clone(filepath.Join(dir, "c"), dir); err == nil {
		t.Error("cloned a folder that holds no TPM")
	}
	a, b := start(t, cfg), start(t, swtpm.Config{Dir: clone})
	got := endorsements(t, b)
	for i := range want {
		if !bytes.Equal(got[i].SPKI, want[i].SPKI) {
			t.Errorf("%s differs in the clone", want[i].Name)
		}
	}
	// The file could lie; the TPM's own key cannot.
	for _, m := range []*swtpm.TPM{a, b} {
		c := open(t, m)
		ek, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(tpm2.ECCEKTemplate)}.Execute(c)
		if err != nil {
			t.Fatal(err)
		}
		out, err := ek.OutPublic.Contents()
		if err != nil {
			t.Fatal(err)
		}
		key, err := tpm2.Pub(*out)
		if err != nil {
			t.Fatal(err)
		}
		if spki, err := x509.MarshalPKIXPublicKey(key); err != nil || !bytes.Equal(spki, want[1].SPKI) {
			t.Errorf("endorsement key differs (%v)", err)
		}
	}
	if x, y := clock(t, open(t, a)), clock(t, open(t, b)); x.ResetCount != y.ResetCount {
		t.Errorf("reset counts %d and %d of clones", x.ResetCount, y.ResetCount)
	}
}

func TestCAIsKept(t *testing.T) {
	dir := folder(t)
	a, err := swtpm.OpenCA(dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	b, err := swtpm.OpenCA(dir, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.RootPEM(), b.RootPEM()) {
		t.Error("the second opening made another root")
	}
	if err := os.WriteFile(filepath.Join(dir, "ek-root.key"), []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := swtpm.OpenCA(dir, time.Now()); err == nil {
		t.Error("a broken key was accepted")
	}
}

// TestInterruptedManufactureIsDoneAgain: the files that mark the end are missing,
// the NV indexes are there.
func TestInterruptedManufactureIsDoneAgain(t *testing.T) {
	dir := folder(t)
	ca, err := swtpm.OpenCA(filepath.Join(dir, "ca"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cfg := swtpm.Config{Dir: filepath.Join(dir, "t"), CA: ca}
	m := start(t, cfg)
	want := endorsements(t, m)
	m.Kill()
	if err := os.Remove(filepath.Join(cfg.Dir, "ek-p256.spki")); err != nil {
		t.Fatal(err)
	}
	again := start(t, cfg)
	for i, e := range endorsements(t, again) {
		if !bytes.Equal(e.SPKI, want[i].SPKI) {
			t.Errorf("%s changed", e.Name)
		}
		if !bytes.Equal(readNV(t, open(t, again), e.NVIndex), e.Certificate) {
			t.Errorf("%s: NV and file differ", e.Name)
		}
	}
}
