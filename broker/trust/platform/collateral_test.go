package platform

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier"
)

const (
	testFMSPC = "b0c06f000000"
	otherOne  = "50806f000000"
)

// intel is a test PKI of the shape of Intel's.
type intel struct{ root, signer, pck *ca }

func newIntel(t *testing.T) *intel {
	t.Helper()
	root := newCA(t, "Intel SGX Root CA", nil)
	return &intel{root, newCA(t, "Intel SGX TCB Signing", root), newCA(t, "Intel SGX PCK Platform CA", root)}
}

func (i *intel) chain(leaf *ca) string { return string(leaf.pem()) + string(i.root.pem()) }

func sign(t *testing.T, by *ca, text string) string {
	t.Helper()
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, by.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
}

func tcbText(fmspc string, issued time.Time) string {
	return fmt.Sprintf(`{"id":"TDX","version":3,"issueDate":%q,"nextUpdate":%q,"fmspc":%q,"pceId":"0000"}`,
		issued.Format(time.RFC3339), issued.AddDate(0, 0, 30).Format(time.RFC3339), strings.ToUpper(fmspc))
}

func qeText(issued time.Time) string {
	return fmt.Sprintf(`{"id":"TD_QE","version":2,"issueDate":%q,"nextUpdate":%q}`, issued.Format(time.RFC3339), issued.AddDate(0, 0, 29).Format(time.RFC3339))
}

// collateral is what a bundle holds that is issued at a time.
func (i *intel) collateral(t *testing.T, fmspc string, issued time.Time) collateral {
	t.Helper()
	tcb, qe := tcbText(fmspc, issued), qeText(issued)
	return collateral{
		PCKCRLChain: i.chain(i.pck), RootCRL: hex.EncodeToString(i.root.crl(t, noon.AddDate(0, 6, 0))), PCKCRL: hex.EncodeToString(i.pck.crl(t, noon.AddDate(0, 1, 0))),
		TCBChain: i.chain(i.signer), TCBInfo: tcb, TCBSignature: sign(t, i.signer, tcb),
		QEChain: i.chain(i.signer), QEIdentity: qe, QESignature: sign(t, i.signer, qe),
	}
}

// serve answers as the service does: texts in JSON, chains in headers.
func (s *scene) serveCollateral(c collateral, fmspc string) {
	s.t.Helper()
	send := func(address, header, chain string, body []byte) {
		s.handles(address, func(w http.ResponseWriter, _ *http.Request) {
			if header != "" {
				w.Header().Set(header, url.PathEscape(chain))
			}
			_, _ = w.Write(body)
		})
	}
	list := func(text string) []byte {
		raw, err := hex.DecodeString(text)
		if err != nil {
			s.t.Fatal(err)
		}
		return raw
	}
	send(tcbAddress(fmspc), "TCB-Info-Issuer-Chain", c.TCBChain, []byte(`{"tcbInfo":`+c.TCBInfo+`,"signature":"`+c.TCBSignature+`"}`))
	send(intelQE, "SGX-Enclave-Identity-Issuer-Chain", c.QEChain, []byte(`{"enclaveIdentity":`+c.QEIdentity+`,"signature":"`+c.QESignature+`"}`))
	send(intelPCKCRL, "SGX-PCK-CRL-Issuer-Chain", c.PCKCRLChain, list(c.PCKCRL))
	send(intelRootCRL, "", "", list(c.RootCRL))
}

func intelScene(t *testing.T) (*scene, *intel) {
	t.Helper()
	i := newIntel(t)
	s := newScene(t, i.root.row(ID{verifier.TrustIntel, "sgx-root-ca"}, "https://intel.example/root.cer"))
	s.serves("https://intel.example/root.cer", i.root.cert.Raw)
	s.serveCollateral(i.collateral(t, testFMSPC, noon.Add(-time.Hour)), testFMSPC)
	return s, i
}

func (s *scene) wish(id ID) {
	s.t.Helper()
	if _, err := Wish(s.dir, id); err != nil {
		s.t.Fatal(err)
	}
}

// TestCollateral: the four answers become one object, signed texts byte for byte;
// two machines share three of the answers.
func TestCollateral(t *testing.T) {
	s, i := intelScene(t)
	id, second := ID{verifier.TrustIntelTCB, testFMSPC}, ID{verifier.TrustIntelTCB, otherOne}
	s.wish(id)
	s.wish(second)
	first := i.collateral(t, otherOne, noon.Add(-time.Hour))
	s.handles(tcbAddress(otherOne), func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("TCB-Info-Issuer-Chain", url.PathEscape(first.TCBChain))
		fmt.Fprintf(w, `{"tcbInfo":%s,"signature":%q}`, first.TCBInfo, first.TCBSignature)
	})
	got := s.refresh(Choice{})
	if text, want := outcomes(got), "intel.collateral/50806f000000=fetched intel.collateral/b0c06f000000=fetched intel.root/sgx-root-ca=fetched"; text != want {
		t.Fatalf("%s\n%+v", text, got)
	}
	if len(s.asked) != 6 {
		t.Errorf("%d requests, want 1 for the root, 2 for TCB info and 3 that are shared", len(s.asked))
	}
	if ends := got[id].Ends; !ends.Equal(noon.Add(-time.Hour).AddDate(0, 0, 29)) {
		t.Errorf("ends %s, want that of the part that ends first", ends)
	}
	var kept map[string]string
	if err := json.Unmarshal(s.folder().held[id].raw, &kept); err != nil || len(kept) != 9 || kept["tcb_info"] != tcbText(testFMSPC, noon.Add(-time.Hour)) {
		t.Errorf("%d members, %v", len(kept), err)
	}
	// A broker looks after it by itself; what is older does not come in its place.
	s.wait(listEvery)
	s.serveCollateral(i.collateral(t, testFMSPC, noon.Add(-2*time.Hour)), testFMSPC)
	if got := s.refresh(Choice{Held: true})[id]; got.Outcome != RefreshMismatch || !strings.Contains(got.Detail, "older") {
		t.Errorf("%s %s", got.Outcome, got.Detail)
	}
}

// TestCollateralDisbelieved: each signature, each name and each date counts.
func TestCollateralDisbelieved(t *testing.T) {
	id := ID{verifier.TrustIntelTCB, testFMSPC}
	stranger := newIntel(t)
	for name, change := range map[string]func(t *testing.T, i *intel, c *collateral){
		"TCB info edited": func(_ *testing.T, _ *intel, c *collateral) {
			c.TCBInfo = strings.Replace(c.TCBInfo, `"0000"`, `"0001"`, 1)
		},
		"QE identity edited": func(_ *testing.T, _ *intel, c *collateral) {
			c.QEIdentity = strings.Replace(c.QEIdentity, `:2,`, `:3,`, 1)
		},
		"a signature of another":    func(t *testing.T, i *intel, c *collateral) { c.TCBSignature = sign(t, i.pck, c.TCBInfo) },
		"a short signature":         func(_ *testing.T, _ *intel, c *collateral) { c.QESignature = c.QESignature[2:] },
		"TCB chain of another root": func(_ *testing.T, _ *intel, c *collateral) { c.TCBChain = stranger.chain(stranger.signer) },
		"QE chain of another root":  func(_ *testing.T, _ *intel, c *collateral) { c.QEChain = stranger.chain(stranger.signer) },
		"PCK chain of another root": func(_ *testing.T, _ *intel, c *collateral) { c.PCKCRLChain = stranger.chain(stranger.pck) },
		"a list of another root": func(t *testing.T, _ *intel, c *collateral) {
			c.RootCRL = hex.EncodeToString(stranger.root.crl(t, noon.AddDate(0, 1, 0)))
		},
		"a list of another CA": func(t *testing.T, _ *intel, c *collateral) {
			c.PCKCRL = hex.EncodeToString(stranger.pck.crl(t, noon.AddDate(0, 1, 0)))
		},
		"an expired list": func(t *testing.T, i *intel, c *collateral) {
			c.PCKCRL = hex.EncodeToString(i.pck.crl(t, noon.Add(-time.Minute)))
		},
		"another FMSPC": func(t *testing.T, i *intel, c *collateral) {
			c.TCBInfo = tcbText(otherOne, noon.Add(-time.Hour))
			c.TCBSignature = sign(t, i.signer, c.TCBInfo)
		},
		"of SGX": func(t *testing.T, i *intel, c *collateral) {
			c.TCBInfo = strings.Replace(c.TCBInfo, `"TDX"`, `"SGX"`, 1)
			c.TCBSignature = sign(t, i.signer, c.TCBInfo)
		},
		"expired": func(t *testing.T, i *intel, c *collateral) {
			c.TCBInfo = tcbText(testFMSPC, noon.AddDate(0, -2, 0))
			c.TCBSignature = sign(t, i.signer, c.TCBInfo)
		},
		"of the future": func(t *testing.T, i *intel, c *collateral) {
			c.TCBInfo = tcbText(testFMSPC, noon.Add(time.Hour))
			c.TCBSignature = sign(t, i.signer, c.TCBInfo)
		},
		"no chain": func(_ *testing.T, _ *intel, c *collateral) { c.TCBChain = "" },
	} {
		t.Run(name, func(t *testing.T) {
			s, i := intelScene(t)
			s.wish(id)
			c := i.collateral(t, testFMSPC, noon.Add(-time.Hour))
			change(t, i, &c)
			s.serveCollateral(c, testFMSPC)
			if got := s.refresh(Choice{})[id]; got.Outcome != RefreshMismatch || s.folder().held[id] != nil {
				t.Errorf("%s %s", got.Outcome, got.Detail)
			}
		})
	}
	// Without Intel's root nothing is believed.
	s, _ := intelScene(t)
	s.wish(id)
	if got := s.refresh(Choice{Kind: verifier.TrustIntelTCB})[id]; got.Outcome != RefreshMismatch {
		t.Errorf("without the root: %+v", got)
	}
}
