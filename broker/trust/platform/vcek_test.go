package platform

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier"
)

// endorse issues a VCEK of a test PKI of the shape of AMD's.
func (a *ca) endorse(t *testing.T, c chip, wrapped bool) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ext := func(value []byte, arcs ...int) pkix.Extension {
		return pkix.Extension{Id: append(append(asn1.ObjectIdentifier{}, amdOID...), arcs...), Value: value}
	}
	id := c.id
	if wrapped {
		if id, err = asn1.Marshal(c.id); err != nil {
			t.Fatal(err)
		}
	}
	product, err := asn1.MarshalWithParams(strings.ToUpper(c.product[:1])+c.product[1:]+"-B0", "ia5")
	if err != nil {
		t.Fatal(err)
	}
	extensions := []pkix.Extension{ext(product, 2), ext(id, arcHardwareID)}
	for _, p := range layouts[c.product] {
		n, err := asn1.Marshal(int(c.tcb[p.at]))
		if err != nil {
			t.Fatal(err)
		}
		extensions = append(extensions, ext(n, 3, p.arc))
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "SEV-VCEK"}, NotBefore: noon.AddDate(-1, 0, 0), NotAfter: noon.AddDate(6, 0, 0), ExtraExtensions: extensions,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func someChip(product string) chip {
	c := chip{product: product, id: make([]byte, 64), tcb: [8]byte{3, 1, 0, 0, 0, 0, 23, 0xd3}}
	if product == "turin" {
		c.id, c.tcb = make([]byte, 8), [8]byte{1, 2, 3, 4, 0, 0, 0, 9}
	}
	c.id[0] = 0xab
	return c
}

func TestVCEKAddress(t *testing.T) {
	for product, want := range map[string]string{
		"milan": "https://kdsintf.amd.com/vcek/v1/Milan/ab" + strings.Repeat("0", 126) + "?blSPL=03&snpSPL=23&teeSPL=01&ucodeSPL=211",
		"turin": "https://kdsintf.amd.com/vcek/v1/Turin/ab" + strings.Repeat("0", 14) + "?blSPL=02&fmcSPL=01&snpSPL=04&teeSPL=03&ucodeSPL=09",
	} {
		c, err := parseChip(someChip(product).name())
		if err != nil || c.address() != want {
			t.Errorf("%s: %s, %v", product, c.address(), err)
		}
	}
	good := someChip("milan").name()
	for name, bad := range map[string]string{
		"product": strings.Replace(good, "milan", "naples", 1), "capitals": strings.Replace(good, "ab", "AB", 1), "chip": good[:20] + good[22:],
		"tcb": good[:len(good)-2], "a part more": good + "-00", "turin's chip": strings.Replace(good, "milan", "turin", 1), "empty": "",
	} {
		if _, err := parseChip(bad); err == nil {
			t.Errorf("%s: %q is a chip", name, bad)
		}
	}
}

// TestRefreshVCEK (test PKI): the certificate has to be for the chip and TCB that
// was asked for, and under the intermediate in the folder.
func TestRefreshVCEK(t *testing.T) {
	want := someChip("milan")
	id := ID{verifier.TrustVCEK, want.name()}
	other, newer := someChip("milan"), someChip("milan")
	other.id = append([]byte{0xff}, other.id[1:]...)
	newer.tcb[7]++
	for name, tc := range map[string]struct {
		raw     func(ask *ca) []byte
		outcome string
	}{
		"genuine":           {func(ask *ca) []byte { return ask.endorse(t, want, false) }, RefreshFetched},
		"id in octets":      {func(ask *ca) []byte { return ask.endorse(t, want, true) }, RefreshFetched},
		"another chip":      {func(ask *ca) []byte { return ask.endorse(t, other, false) }, RefreshMismatch},
		"another TCB":       {func(ask *ca) []byte { return ask.endorse(t, newer, false) }, RefreshMismatch},
		"forged":            {func(*ca) []byte { return newCA(t, "SEV-Milan", nil).endorse(t, want, false) }, RefreshMismatch},
		"the intermediate":  {func(ask *ca) []byte { return ask.cert.Raw }, RefreshMismatch},
		"two of them":       {func(ask *ca) []byte { return append(ask.pem(), ask.pem()...) }, RefreshMismatch},
		"of another family": {func(ask *ca) []byte { return newCA(t, "SEV-Genoa", ask).endorse(t, someChip("genoa"), false) }, RefreshMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			ark := newCA(t, "ARK-Milan", nil)
			ask := newCA(t, "SEV-Milan", ark)
			chain := ofCertificates([]*x509.Certificate{ask.cert, ark.cert})
			s := newScene(t, Row{ID: ID{verifier.TrustSNP, "milan-vcek"}, Subject: "x", SHA256: chain.prints, Address: kds + "chain"})
			s.serves(kds+"chain", chain.raw)
			s.serves(want.address(), tc.raw(ask))
			s.wish(id)
			if got := s.refresh(Choice{})[id]; got.Outcome != tc.outcome {
				t.Errorf("%s %s", got.Outcome, got.Detail)
			}
			if s.folder().held[id] != nil != (tc.outcome == RefreshFetched) {
				t.Error("kept, or not")
			}
			if tc.outcome == RefreshFetched {
				if got := s.refresh(Choice{Force: true})[id]; got.Outcome != RefreshPresent {
					t.Errorf("again: %+v", got)
				}
			}
		})
	}
}

func TestWishes(t *testing.T) {
	dir := t.TempDir()
	id := ID{verifier.TrustVCEK, someChip("milan").name()}
	for i, want := range []bool{true, false} {
		if added, err := Wish(dir, id); err != nil || added != want {
			t.Errorf("time %d: %v, %v", i, added, err)
		}
	}
	for name, bad := range map[string]ID{
		"kind": {verifier.TrustAzureIMDS, "root"}, "chip": {verifier.TrustVCEK, "x"}, "FMSPC": {verifier.TrustIntelTCB, "B0C06F000000"}, "line": {verifier.TrustIntelTCB, "b0c06f00000\n"},
	} {
		if _, err := Wish(dir, bad); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	all := []ID{id}
	for i := range maxWishes - 1 {
		all = append(all, ID{verifier.TrustIntelTCB, fmt.Sprintf("%012x", i)})
	}
	if err := writeWishes(dir, all); err != nil {
		t.Fatal(err)
	}
	if _, err := Wish(dir, ID{verifier.TrustIntelTCB, "ffffffffffff"}); !errors.Is(err, ErrManyWishes) {
		t.Errorf("one too many: %v", err)
	}
	if added, err := Wish(dir, id); added || err != nil {
		t.Errorf("a known one in a full list: %v, %v", added, err)
	}
}
