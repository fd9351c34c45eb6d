package document_test

import (
	"bytes"
	"crypto/sha256"
	"math/big"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/document"
)

// 62^27 is above 2^160, so the longest value fits, and what is read back is what
// was written.
func TestBase62IsTheNumber(t *testing.T) {
	for _, fill := range []byte{0x00, 0x01, 0x80, 0xff} {
		bound := [32]byte(bytes.Repeat([]byte{fill}, 32))
		text := document.Base62(bound)
		if len(text) != 27 {
			t.Fatalf("%x: %d characters", fill, len(text))
		}
		// math/big has the alphabet 0-9a-zA-Z.
		swap := func(r rune) rune {
			switch {
			case r >= 'a' && r <= 'z':
				return r - 'a' + 'A'
			case r >= 'A' && r <= 'Z':
				return r - 'A' + 'a'
			}
			return r
		}
		n, ok := new(big.Int).SetString(strings.Map(swap, text), 62)
		if !ok || n.Cmp(new(big.Int).SetBytes(bound[:20])) != 0 {
			t.Errorf("%x: %s is %v", fill, text, n)
		}
	}
}

func TestMachinesAndOwnersHashApart(t *testing.T) {
	a := document.Machine{Kind: "ab", Name: "c"}.Hash()
	for _, other := range [][32]byte{
		document.Machine{Kind: "a", Name: "bc"}.Hash(), document.Owner{Kind: "ab", Value: "c"}.Hash(), document.Machine{}.Hash(),
	} {
		if a == other {
			t.Error("two different names share a hash")
		}
	}
}

func TestReportDataCarriesTheKey(t *testing.T) {
	bound := [32]byte{1, 2, 3}
	plain, with := document.ReportData(bound, nil), document.ReportData(bound, []byte("spki"))
	sum := sha256.Sum256([]byte("spki"))
	if !bytes.Equal(plain[:32], bound[:]) || !bytes.Equal(plain[32:], make([]byte, 32)) {
		t.Errorf("without a key: %x", plain)
	}
	if !bytes.Equal(with[:32], bound[:]) || !bytes.Equal(with[32:], sum[:]) {
		t.Errorf("with a key: %x", with)
	}
}

func TestFactsLeaveOutWhatIsEmpty(t *testing.T) {
	var f document.Facts
	f.Add("b", "2")
	f.Add("a", "")
	f.Add("a", "1")
	f.Add("a", "0")
	f.Own(document.OwnerAWSAccount, "")
	f.Sort()
	if len(f.Owners) != 0 || len(f.Selectors) != 3 || f.Selectors[0] != (document.Selector{Name: "a", Value: "1"}) {
		t.Errorf("%+v", f)
	}
	if got := f.Values("a"); len(got) != 2 || got[1] != "0" {
		t.Errorf("values of a: %v", got)
	}
	if document.Audience([32]byte{}) != "zonebroker:"+strings.Repeat("A", 43) {
		t.Error(document.Audience([32]byte{}))
	}
}

// TestParseOwner: a value in another spelling than documents have would admit
// nobody, and nobody would notice.
func TestParseOwner(t *testing.T) {
	const good = ""
	digits := strings.Repeat("0a", 48)
	for s, why := range map[string]string{
		"aws.account=123456789012":                                good,
		"aws.account=1234-5678-9012":                              "twelve digits",
		"aws.account=":                                            "twelve digits",
		"gcp.project=my-project":                                  good,
		"gcp.project=example.com:my-project":                      good,
		"gcp.project=847250625900":                                "not its number",
		"azure.vm=911b0ef8-9dba-48b0-b275-4e4df2d39252":           good,
		"azure.subscription=911B0EF8-9DBA-48B0-B275-4E4DF2D39252": "lower case",
		"nitro.image=" + digits:                                   good,
		"nitro.image=PCR0":                                        "96 lower-case hex digits",
		"nitro.signer=" + strings.Repeat("0", 96):                 "zeros",
		"snp.chip=" + digits:                                      "128 lower-case hex digits",
		"x509.ca=" + strings.ToUpper(digits[:64]):                 "64 lower-case hex digits",
		"k8s.cluster=https://oidc.example.org/id/1":               good,
		"k8s.cluster=two words":                                   "visible",
		"aws.acount=123456789012":                                 "kinds are aws.account, azure.subscription",
		"aws.account":                                             "KIND=VALUE",
		"":                                                        "KIND=VALUE",
	} {
		o, err := document.ParseOwner(s)
		switch {
		case why == good:
			if err != nil || o.Kind+"="+o.Value != s {
				t.Errorf("%s: %+v, %v", s, o, err)
			}
		case err == nil || !strings.Contains(err.Error(), why) || o != (document.Owner{}):
			t.Errorf("%s: %+v, %v", s, o, err)
		}
	}
}
