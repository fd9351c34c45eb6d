package verifier_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math"
	"strconv"
	"testing"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// sameForm: the history of a release stays judgeable by the next, so that the
// bytes are those that encoding/json wrote at first.
func sameForm(t testing.TB, a verifier.Appraisal) {
	t.Helper()
	got, err := a.Canonical()
	want, werr := verifier.CanonicalByLibrary(a)
	if err != nil || werr != nil || !bytes.Equal(got, want) {
		t.Errorf("got  %s %v\nwant %s %v", got, err, want, werr)
	}
}

func TestCanonicalIsWhatTheLibraryWrites(t *testing.T) {
	sameForm(t, verifier.Appraisal{})
	sameForm(t, mustAppraise(t, newEnrol(t)))
	sameForm(t, mustAppraise(t, newRenew(t)))
	refused := newEnrol(t)
	refused.ev.TPM2.EventLog = refused.ev.TPM2.EventLog[:100]
	a, _ := refused.appraise()
	sameForm(t, a)
	for _, s := range []string{"", "tpm2", `"`, `\`, "<", ">", "&", "\x00", "\n", "\x7f", "zürich", "\u2028", "\xff", "\U0001f512"} {
		for _, n := range []uint64{0, 1, 1 << 53, math.MaxUint64} {
			clock := tpm2.Clock{Millis: n, ResetCount: uint32(n), RestartCount: uint32(n >> 1), Safe: n == 1}
			sameForm(t, verifier.MadeUp(s, "x"+s, s+"x", n == 0, clock, n, nil))
			sameForm(t, verifier.MadeUp("f", "k", "m", n == 0, clock, n, []verifier.Finding{}[:0:0]))
			sameForm(t, verifier.MadeUp("f", "k", "m", n == 0, clock, n, []verifier.Finding{
				{Check: s, Code: reason.Code(s), Detail: s}, verifier.Denial(s, s, "a"+s), {},
			}))
			sameForm(t, verifier.MadeUp("f", "k", "m", n == 0, clock, n, []verifier.Finding{
				{Check: "advisory", Detail: s}, {Check: s}, {Check: "advisory"}, {Check: "key", Detail: s},
			}))
			sameForm(t, verifier.MadeUp("f", "k", "m", n == 0, clock, n, []verifier.Finding{{Check: "advisory", Detail: s}}))
		}
	}
}

func FuzzCanonical(f *testing.F) {
	f.Add("tpm2", "tpm", "STM", true, uint64(1), uint64(2), "eventlog", "tpm2.rebooted", "<\n>")
	f.Fuzz(func(t *testing.T, format, key, maker string, yes bool, clock, firmware uint64, check, code, detail string) {
		sameForm(t, verifier.MadeUp(format, key, maker, yes, tpm2.Clock{Millis: clock, ResetCount: uint32(clock), Safe: yes}, firmware,
			[]verifier.Finding{verifier.Denial(check, code, detail), {Check: detail, Detail: check}}))
	})
}

func TestPCRObjectIsWhatTheLibraryWrites(t *testing.T) {
	all := map[int][]byte{}
	for n := -1; n < 40; n++ {
		want := map[string]string{}
		for i, v := range all {
			want[strconv.Itoa(i)] = hex.EncodeToString(v)
		}
		raw, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if got := verifier.PCRObject(all); !bytes.Equal(got, raw) {
			t.Errorf("%d values: got  %s\nwant %s", len(all), got, raw)
		}
		all[n] = bytes.Repeat([]byte{byte(n)}, n&63)
	}
}

func BenchmarkCanonical(b *testing.B) {
	a := mustAppraise(b, newRenew(b))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Canonical(); err != nil {
			b.Fatal(err)
		}
	}
}
