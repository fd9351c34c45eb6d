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
