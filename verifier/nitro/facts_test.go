package nitro_test

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/nitro"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func pcrHex(instance bool, i int) string {
	return hex.EncodeToString(documenttest.NitroPCR(instance, i))
}

// TestEnclaveFacts: what zones, admission and history get of an enclave.
func TestEnclaveFacts(t *testing.T) {
	l := newLab(t)
	raw := l.document(t, documenttest.NitroFields{Nonce: nonce, UserData: []byte("u"), PublicKey: []byte("k")})
	d, err := nitro.Verify(raw, nitro.Expectation{Nonce: nonce}, l.trust, noon)
	must(t, err)
	f := d.Facts()
	f.Findings = nil
	want := document.Facts{
		Class: document.ClassA, NonceBound: true, KeyBound: true,
		IssuedAt: noon, ExpiresAt: noon.Add(3*time.Hour - 27*time.Second),
		Machine: document.Machine{Kind: document.MachineNitro, Name: documenttest.NitroModule},
		Owners: []document.Owner{
			{Kind: document.OwnerNitroSigner, Value: pcrHex(false, 8)},
			{Kind: document.OwnerNitroImage, Value: pcrHex(false, 0)},
			{Kind: document.OwnerNitroInstance, Value: documenttest.NitroInstance},
		},
		Selectors: []document.Selector{
			{Name: "nitro.debug", Value: "false"},
			{Name: "nitro.enclave_id", Value: "enc0123456789abcdef"},
			{Name: "nitro.instance_id", Value: documenttest.NitroInstance},
			{Name: "nitro.module_id", Value: documenttest.NitroModule},
			{Name: "nitro.pcr.0", Value: pcrHex(false, 0)},
			{Name: "nitro.pcr.1", Value: pcrHex(false, 1)},
			{Name: "nitro.pcr.2", Value: pcrHex(false, 2)},
			{Name: "nitro.pcr.3", Value: pcrHex(false, 3)},
			{Name: "nitro.pcr.4", Value: pcrHex(false, 4)},
			{Name: "nitro.pcr.8", Value: pcrHex(false, 8)},
			{Name: "nitro.region", Value: documenttest.NitroRegion},
		},
	}
	if diff := cmp.Diff(want, f); diff != "" {
		t.Error(diff)
	}
	if string(d.UserData()) != "u" || string(d.PublicKey()) != "k" || !bytes.Equal(d.Nonce(), nonce) || !d.Timestamp().Equal(noon) ||
		d.ModuleID() != documenttest.NitroModule || d.Region() != documenttest.NitroRegion || !bytes.Equal(d.PCR(0), documenttest.NitroPCR(false, 0)) || d.PCR(31) != nil {
		t.Errorf("%+v", d)
	}
}

// TestInstanceFacts: an instance has no debug mode, and registers of a dynamic
// launch that never happened are no measurement.
func TestInstanceFacts(t *testing.T) {
	l := newLab(t)
	for module, leaf := range map[string]string{
		documenttest.NitroTPM: documenttest.NitroTPM, documenttest.NitroInstance: documenttest.NitroTPM,
	} {
		fields := documenttest.NitroFields{Instance: true, Nonce: nonce, Module: module, Leaf: named(leaf + ".us-gov-west-1.aws")}
		d, err := nitro.Verify(l.document(t, fields), wanted(fields), l.trust, noon)
		must(t, err)
		f := d.Facts()
		if f.Machine != (document.Machine{Kind: document.MachineNitroTPM, Name: "us-gov-west-1/" + documenttest.NitroInstance}) ||
			!slices.Equal(f.Anchors, []document.Anchor{{Kind: document.AnchorEC2, Value: f.Machine.Name}}) || f.Class != document.ClassA {
			t.Errorf("%+v", f)
		}
		if f.Values("nitrotpm.pcr.7")[0] != pcrHex(true, 7) || f.Values("nitrotpm.pcr.17") != nil || f.Values("nitrotpm.pcr.23") != nil {
			t.Errorf("%v", f.Selectors)
		}
		if len(f.Hazards) != 0 || !slices.Equal(f.Owners, []document.Owner{{Kind: document.OwnerNitroInstance, Value: documenttest.NitroInstance}}) {
			t.Errorf("%v %v", f.Hazards, f.Owners)
		}
	}
	stranger := documenttest.NitroFields{Instance: true, Nonce: nonce, Module: documenttest.NitroInstance, Leaf: named(documenttest.NitroInstance + "0-tpm0.us-east-1.aws")}
	if _, err := nitro.Verify(l.document(t, stranger), wanted(stranger), l.trust, noon); reason.Of(err) != reason.NitroLeaf {
		t.Errorf("certificate of another instance: %v", err)
	}
}

// TestWithoutNonceIsBearer: nobody asked for the document, so it says nothing of
// who shows it.
func TestWithoutNonceIsBearer(t *testing.T) {
	l := newLab(t)
	d, err := nitro.Verify(l.document(t, documenttest.NitroFields{Nonce: nonce}), nitro.Expectation{}, l.trust, noon)
	must(t, err)
	if f := d.Facts(); f.Class != document.ClassC || f.NonceBound || f.KeyBound {
		t.Errorf("%+v", f)
	}
}

// TestDebugIsNobodysImage: all debug enclaves share a zero PCR 0, so it admits
// none.
func TestDebugIsNobodysImage(t *testing.T) {
	l := newLab(t)
	fields := documenttest.NitroFields{Nonce: nonce, PCRs: map[int][]byte{0: make([]byte, 48), 8: make([]byte, 48)}}
	d, err := nitro.Verify(l.document(t, fields), wanted(fields), l.trust, noon)
	must(t, err)
	f := d.Facts()
	if len(f.Hazards) != 1 || f.Hazards[0].Code != reason.NitroDebug || f.Values("nitro.debug")[0] != "true" {
		t.Errorf("%+v", f)
	}
	for _, o := range f.Owners {
		if strings.Trim(o.Value, "0") == "" {
			t.Errorf("owner %v", o)
		}
	}
}

// TestForms of a document that are all good.
func TestForms(t *testing.T) {
	l := newLab(t)
	for name, f := range map[string]documenttest.NitroFields{
		"tag 18": {Message: func(m *documenttest.Sign1) { m.Tag = true }},
		"other headers": {Message: func(m *documenttest.Sign1) {
			m.Protected, m.Unprotected = map[any]any{1: -35, 3: 0, "x": 1}, map[any]any{4: []byte("kid")}
		}},
		"indefinite map":      {Payload: func(p []byte) []byte { return append(append([]byte{0xbf}, p[1:]...), 0xff) }},
		"members left out":    {Content: func(c map[any]any) { delete(c, "user_data"); delete(c, "public_key") }},
		"fields at the limit": {UserData: make([]byte, 1024), PublicKey: make([]byte, 1024)},
		"all registers":       {PCRs: map[int][]byte{31: bytes.Repeat([]byte{1}, 48)}},
		"five minutes old":    {At: noon.Add(-5 * time.Minute), Leaf: longer()},
		"a minute ahead":      {At: noon.Add(time.Minute)},
	} {
		f.Nonce = nonce
		if _, err := nitro.Verify(l.document(t, f), wanted(f), l.trust, noon); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func longer() *x509.Certificate {
	c := named(documenttest.NitroModule + ".us-east-1.aws")
	c.NotBefore = noon.Add(-time.Hour)
	return c
}

// TestNewTrust: what is no root is refused and not passed over.
func TestNewTrust(t *testing.T) {
	l := newLab(t)
	root := l.RootPEM()
	leaf, err := l.Issuer[0].Issue(l.Leaf("x"), p384)
	must(t, err)
	ca := l.Authority("P-256 root", noon, noon.Add(time.Hour), -1)
	small, err := (*documenttest.Certified)(nil).Issue(ca, p256)
	must(t, err)
	for name, b := range map[string][]byte{
		"text":              []byte("root"),
		"text behind":       append(bytes.Clone(root), "x"...),
		"rubbish":           inPEM("CERTIFICATE", []byte{1}),
		"no certificate":    inPEM("PRIVATE KEY", l.Issuer[0].Raw),
		"an end entity":     inPEM("CERTIFICATE", leaf.Raw),
		"a P-256 root":      inPEM("CERTIFICATE", small.Raw),
		"seventeen of them": bytes.Repeat(root, 17),
	} {
		if trust, err := nitro.NewTrust(b); err == nil || trust.Len() != 0 {
			t.Errorf("%s: taken", name)
		}
	}
	trust, err := nitro.NewTrust(root, append([]byte("\n"), root...))
	if err != nil || trust.Len() != 2 || !bytes.Equal(trust.Roots()[1].Raw, l.Issuer[0].Raw) {
		t.Errorf("%d roots, %v", trust.Len(), err)
	}
	if trust, err := nitro.NewTrust(); err != nil || trust.Len() != 0 {
		t.Error(err)
	}
}
