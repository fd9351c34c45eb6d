package conformance_test

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/verifier/conformance"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// TestPCRValuesOfOneBank: what is read is of the bank that was asked for, by the
// only spelling of each PCR.
func TestPCRValuesOfOneBank(t *testing.T) {
	yaml := "pcrs:\n  sha1:\n    0 : 0x01\n\n    1 : 0x02\n  sha256:\n    3 : 0x03\n\n    4 : 04\n  sha384:\n    5 : 0x05\n"
	for name, c := range map[string]struct {
		raw  string
		bank tpm2.Bank
		want map[int][]byte
	}{
		"YAML, first bank":    {yaml, tpm2.BankSHA1, map[int][]byte{0: {1}, 1: {2}}},
		"YAML, second bank":   {yaml, tpm2.BankSHA256, map[int][]byte{3: {3}, 4: {4}}},
		"YAML, last bank":     {yaml, tpm2.BankSHA384, map[int][]byte{5: {5}}},
		"YAML with CR":        {strings.ReplaceAll(yaml, "\n", "\r\n"), tpm2.BankSHA384, map[int][]byte{5: {5}}},
		"JSON, bank first":    {`{"sha256":{"0":"01"},"pcrs":{"0":"02"}}`, tpm2.BankSHA256, map[int][]byte{0: {1}}},
		"JSON, other bank":    {`{"sha1":{"0":"01"},"pcrs":{"0":"02"}}`, tpm2.BankSHA256, map[int][]byte{0: {2}}},
		"JSON, last PCR":      {`{"23":"01"}`, tpm2.BankSHA256, map[int][]byte{23: {1}}},
		"JSON list":           {" [\"01\",\"0x02\"]\n", tpm2.BankSHA256, map[int][]byte{0: {1}, 1: {2}}},
		"JSON list of all":    {"[" + strings.Repeat(`"",`, 23) + `"01"]`, tpm2.BankSHA256, upTo(24, map[int][]byte{23: {1}})},
		"lines of all":        {strings.Repeat("00\n", 24), tpm2.BankSHA256, same(24, []byte{0})},
		"what is no hex":      {"00 xx", tpm2.BankSHA256, map[int][]byte{0: {0}, 1: {}}},
		"a line of one value": {"0x07", tpm2.BankSHA256, map[int][]byte{0: {7}}},
	} {
		got, err := conformance.PCRValues([]byte(c.raw), c.bank)
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
}

func same(n int, v []byte) map[int][]byte {
	out := map[int][]byte{}
	for i := range n {
		out[i] = v
	}
	return out
}

func upTo(n int, some map[int][]byte) map[int][]byte {
	out := same(n, []byte{})
	for i, v := range some {
		out[i] = v
	}
	return out
}

// TestPCRValuesThatAreNone: a file that says something else is not read as a few
// values of it.
func TestPCRValuesThatAreNone(t *testing.T) {
	for name, c := range map[string]struct{ raw, want string }{
		"empty":            {" \n", "is empty"},
		"too large":        {strings.Repeat(" ", 32<<20) + "0", "larger than 32 MiB"},
		"not JSON":         {`{"0":`, "not JSON"},
		"JSON, PCR 24":     {`{"24":"00"}`, `name "24"`},
		"JSON, PCR 07":     {`{"07":"00"}`, `name "07"`},
		"JSON, PCR -1":     {`{"-1":"00"}`, `name "-1"`},
		"JSON, number":     {`{"0":1}`, "unknown form"},
		"JSON list of 25":  {"[" + strings.Repeat(`"00",`, 24) + `"00"]`, "unknown form"},
		"25 lines":         {strings.Repeat("00\n", 25), "more lines"},
		"YAML, PCR 24":     {"sha256:\n  24 : 00\n", "name PCR 24"},
		"YAML, PCR 07":     {"sha256:\n  07 : 00\n", "name PCR 07"},
		"YAML, other bank": {"sha1:\n  0 : 00\n", "no bank sha256"},
		"YAML, no bank":    {"  0 : 00\n", "no bank sha256"},
		"YAML, left bank":  {"sha256:\nother:\n  0 : 00\n", "no bank sha256"},
	} {
		if got, err := conformance.PCRValues([]byte(c.raw), tpm2.BankSHA256); err == nil || got != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	largest := strings.Repeat(" ", 32<<20-2) + "00"
	if got, err := conformance.PCRValues([]byte(largest), tpm2.BankSHA256); err != nil || len(got) != 1 {
		t.Errorf("the largest file: %v, %v", got, err)
	}
}

// blob writes the memory form of tpm2-tools: a mask a bank, and digests in lists.
func blob(banks [][8]byte, lists ...[]string) []byte {
	le := binary.LittleEndian
	out := le.AppendUint32(nil, uint32(len(banks)))
	masks := make([]byte, 16*8)
	for i, b := range banks {
		copy(masks[min(i, 15)*8:], b[:])
	}
	out = le.AppendUint32(append(out, masks...), uint32(len(lists)))
	for _, l := range lists {
		list := make([]byte, 4+8*66)
		le.PutUint32(list, uint32(len(l)))
		for i, d := range l[:min(len(l), 8)] {
			le.PutUint16(list[4+i*66:], uint16(len(d)))
			copy(list[4+i*66+2:4+(i+1)*66], d)
		}
		out = append(out, list...)
	}
	return out
}

// TestToolsBlobOfTwoBanks: digests stand in the order of banks and PCRs, and only
// those of the bank that was asked for are its values.
func TestToolsBlobOfTwoBanks(t *testing.T) {
	raw := blob([][8]byte{{4, 0, 3, 0x03}, {0x0b, 0, 4, 0x01, 0, 0x80, 0x80}}, []string{"a", "b"}, []string{"c", "d", strings.Repeat("e", 64)})
	for _, c := range []struct {
		bank tpm2.Bank
		want string
	}{
		{tpm2.BankSHA1, "map[0:a 1:b]"},
		{tpm2.BankSHA256, "map[0:c 23:d 31:" + strings.Repeat("e", 64) + "]"},
		{tpm2.BankSHA384, "map[]"},
	} {
		got, err := conformance.ReadPCRs(raw, c.bank, true)
		if err != nil || texts(got) != c.want {
			t.Errorf("%s: %s, %v", c.bank, texts(got), err)
		}
	}
	short := blob([][8]byte{{0x0b, 0, 3, 0xff}}, []string{"a"})
	if got, err := conformance.ReadPCRs(short, tpm2.BankSHA256, true); err != nil || texts(got) != "map[0:a]" {
		t.Errorf("a value for one PCR of eight: %s, %v", texts(got), err)
	}
	crowded := blob([][8]byte{{0x0b, 0, 3, 0xff, 3}}, []string{"a", "b", "c", "d", "e", "f", "g", "h", "i"}, []string{"j"})
	if got, err := conformance.ReadPCRs(crowded, tpm2.BankSHA256, true); err != nil || len(got) != 9 || string(got[8]) != "j" {
		t.Errorf("a list that says nine: %s, %v", texts(got), err)
	}
}

func texts(values map[int][]byte) string {
	out := map[int]string{}
	for i, v := range values {
		out[i] = string(v)
	}
	return fmt.Sprint(out)
}

// TestToolsBlobOfAnotherForm: sizes that disagree with the bytes are no blob.
func TestToolsBlobOfAnotherForm(t *testing.T) {
	full := make([][8]byte, 16)
	if _, err := conformance.ReadPCRs(blob(full), tpm2.BankSHA256, true); err != nil {
		t.Errorf("sixteen banks and no digest: %v", err)
	}
	good := blob([][8]byte{{0x0b, 0, 3, 1}}, []string{"a"})
	more := append([]byte{}, good...)
	more[132] = 2
	for name, raw := range map[string][]byte{
		"seventeen banks": blob(make([][8]byte, 17)),
		"a list less":     more,
		"a byte less":     good[:len(good)-1],
		"a byte more":     append(append([]byte{}, good...), 0),
		"only its masks":  good[:135],
		"nothing":         nil,
	} {
		if got, err := conformance.ReadPCRs(raw, tpm2.BankSHA256, true); err == nil || !strings.Contains(err.Error(), "blob") {
			t.Errorf("%s: %s, %v", name, texts(got), err)
		}
	}
}
