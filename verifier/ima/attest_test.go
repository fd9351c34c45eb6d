package ima_test

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha512"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/ima"
	"github.com/zonebroker/zonebroker/verifier/ima/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestAttest a whole boot, then only what is new, then nothing new.
func TestAttest(t *testing.T) {
	l := machine(6)
	all := l.Extends()
	a := attest(t, build.New(l.Entries()[:3]...).Bytes(), quoted(all[:3]))
	if a.Entries() != 3 || a.New() != 3 || a.Carried() != 0 || a.First() != 0 || a.Violations() != 0 {
		t.Fatalf("%d entries, %d new, %d carried", a.Entries(), a.New(), a.Carried())
	}
	if a.Extend() != ima.ExtendBank || a.BootAggregate() != "PCR 0 to 9 of bank sha256" || a.Boot() != boot || !a.Known() {
		t.Errorf("%s, %s", a.Extend(), a.BootAggregate())
	}
	if !bytes.Equal(a.PCR10(), build.PCR10(all[:3])) {
		t.Errorf("PCR 10 is %x", a.PCR10())
	}
	state := a.State(ima.Judged{})
	next := ima.Segment{First: 3, Raw: build.New(l.Entries()[3:]...).Bytes()}
	b, err := ima.Attest(next, state, boot, quoted(all))
	if err != nil || b.Entries() != 7 || b.New() != 4 || b.BootAggregate() != "" {
		t.Fatalf("%d entries, %d new (%v)", b.Entries(), b.New(), err)
	}
	c, err := ima.Attest(ima.Segment{First: 7}, b.State(ima.Judged{}), boot, quoted(all))
	if err != nil || c.Entries() != 7 || c.New() != 0 {
		t.Fatalf("%d entries, %d new (%v)", c.Entries(), c.New(), err)
	}
	if c.State(ima.Judged{}) != b.State(ima.Judged{}) {
		t.Error("nothing new, and another state")
	}
}

// TestAttestRefuses each forgery of a list by its code.
func TestAttestRefuses(t *testing.T) {
	l := machine(3)
	q := quoted(l.Extends())
	other := firmware()
	other[3] = make([]byte, 32)
	own := func(l *build.List) ima.Quoted { return quoted(l.Extends()) }
	foreign := build.New(append([]build.Entry{build.Aggregate(other)}, l.Entries()[1:]...)...)
	headless := build.New(l.Entries()[1:]...)
	swapped := build.New(l.Entries()[0], l.Entries()[2], l.Entries()[1], l.Entries()[3])
	pcr11 := with(l, 2, func(e *build.Entry) { e.PCR = 11 })
	unknown := with(l, 2, func(e *build.Entry) { *e = build.Measured("n-ng|d-ng", e.Data) })
	digest := with(l, 2, func(e *build.Entry) { e.Digest[0] ^= 1 })
	newline := with(l, 2, func(e *build.Entry) { *e = build.File("/a\nb", nil) })
	violated := with(l, 0, func(e *build.Entry) { *e = build.Violation("boot_aggregate") })
	weak := with(l, 0, func(e *build.Entry) {
		*e = build.Measured("ima-ng", build.Fields(append([]byte("sha1:\x00"), make([]byte, 20)...), build.Name("boot_aggregate")))
	})
	zeroed := with(l, 0, func(e *build.Entry) { e.Digest = [20]byte{} })
	renamed := with(l, 0, func(e *build.Entry) { *e = build.File("/aggregate", concatenated()) })
	both := with(digest, 3, func(e *build.Entry) { *e = build.File("/a\nb", nil) })
	long, brief := own(l), own(l)
	long.PCRs[10], brief.PCRs[10] = append(long.PCRs[10], 0), brief.PCRs[10][:20]
	nothing := ima.Quoted{Bank: "sm3", PCRs: map[int][]byte{10: {}}}
	without := func(pcr int) ima.Quoted {
		q := own(l)
		delete(q.PCRs, pcr)
		return q
	}
	blank := own(l)
	blank.PCRs[10] = make([]byte, 32)
	for what, tc := range map[string]struct {
		raw  []byte
		q    ima.Quoted
		code reason.Code
	}{
		"aggregate_zeroed":      {zeroed.Bytes(), own(zeroed), reason.IMABootAggregate},
		"aggregate_renamed":     {renamed.Bytes(), own(renamed), reason.IMABootAggregate},
		"digest_and_newline":    {both.Bytes(), own(both), reason.IMAEncoding},
		"ascii":                 {[]byte(strings.Repeat("10 00 ima-ng", 9)), q, reason.IMAEncoding},
		"pcr_10_too_long":       {l.Bytes(), long, reason.IMAMissing},
		"pcr_10_too_short":      {l.Bytes(), brief, reason.IMAMissing},
		"bank_of_no_length":     {l.Bytes(), nothing, reason.IMAMissing},
		"shorter":               {build.New(l.Entries()[:3]...).Bytes(), q, reason.IMATruncated},
		"cut":                   {l.Bytes()[:len(l.Bytes())-1], q, reason.IMATruncated},
		"dropped":               {build.New(append(l.Entries()[:2], l.Entries()[3])...).Bytes(), q, reason.IMATruncated},
		"doubled":               {build.New(append(l.Entries()[:2], l.Entries()[1:]...)...).Bytes(), q, reason.IMATruncated},
		"swapped":               {swapped.Bytes(), q, reason.IMATruncated},
		"first_dropped":         {headless.Bytes(), q, reason.IMABootAggregate},
		"without_aggregate":     {headless.Bytes(), own(headless), reason.IMABootAggregate},
		"aggregate_violated":    {violated.Bytes(), own(violated), reason.IMABootAggregate},
		"other_boot":            {foreign.Bytes(), own(foreign), reason.IMABootAggregate},
		"sha1_aggregate":        {weak.Bytes(), own(weak), reason.IMABootAggregate},
		"pcr_7_not_quoted":      {l.Bytes(), without(7), reason.IMABootAggregate},
		"pcr_10_not_quoted":     {l.Bytes(), without(10), reason.IMAMissing},
		"nothing_sent":          {nil, q, reason.IMAMissing},
		"nothing_measured":      {nil, blank, reason.IMAMissing},
		"pcr_10_at_reset_value": {l.Bytes(), blank, reason.IMAMissing},
		"pcr_11":                {pcr11.Bytes(), own(pcr11), reason.IMAPCR},
		"template":              {unknown.Bytes(), own(unknown), reason.IMATemplateUnknown},
		"digest":                {digest.Bytes(), q, reason.IMADigest},
		"newline":               {newline.Bytes(), own(newline), reason.IMAEncoding},
		"unknown_bank":          {l.Bytes(), ima.Quoted{Bank: "sm3", PCRs: q.PCRs}, reason.IMAMissing},
	} {
		t.Run(what, func(t *testing.T) {
			a, err := ima.Attest(ima.Segment{Raw: tc.raw}, ima.State{}, boot, tc.q)
			wantCode(t, err, tc.code)
			if a.Known() || a.Entries() != 0 {
				t.Error("a refused list attests something")
			}
		})
	}
	_, err := ima.Attest(ima.Segment{Raw: foreign.Bytes()}, ima.State{}, boot, own(foreign))
	if err == nil || !strings.Contains(err.Error(), "over PCR 0 to 9") {
		t.Errorf("%v does not say what was expected", err)
	}
}

// TestAttestOffset: a segment that does not go on from what is known.
func TestAttestOffset(t *testing.T) {
	l := machine(4)
	all := l.Extends()
	state := attest(t, build.New(l.Entries()[:3]...).Bytes(), quoted(all[:3])).State(ima.Judged{})
	rest := build.New(l.Entries()[3:]...).Bytes()
	sha384 := ima.Quoted{Bank: ima.SHA384, PCRs: map[int][]byte{10: bytes.Repeat([]byte{1}, 48)}}
	for what, tc := range map[string]struct {
		first uint64
		state ima.State
		boot  ima.Boot
		q     ima.Quoted
		code  reason.Code
	}{
		"good":           {3, state, boot, quoted(all), ""},
		"ahead":          {4, state, boot, quoted(all), reason.IMAOffset},
		"behind":         {2, state, boot, quoted(all), reason.IMAOffset},
		"unknown":        {3, ima.State{}, boot, quoted(all), reason.IMAOffset},
		"after_reset":    {3, state, ima.Boot{Resets: 8, Restarts: 1}, quoted(all), reason.IMAOffset},
		"after_resume":   {3, state, ima.Boot{Resets: 7, Restarts: 2}, quoted(all), reason.IMAOffset},
		"other_bank":     {3, state, boot, sha384, reason.IMAOffset},
		"from_the_midst": {0, state, boot, quoted(all), reason.IMABootAggregate},
	} {
		t.Run(what, func(t *testing.T) {
			_, err := ima.Attest(ima.Segment{First: tc.first, Raw: rest}, tc.state, tc.boot, tc.q)
			wantCode(t, err, tc.code)
		})
	}
	// From the start it needs no state, and does not look at one.
	a, err := ima.Attest(ima.Segment{Raw: l.Bytes()}, state, ima.Boot{Resets: 8}, quoted(all))
	if err != nil || a.Entries() != 5 || a.State(ima.Judged{}).Boot().Resets != 8 {
		t.Errorf("from the start: %d entries (%v)", a.Entries(), err)
	}
}

// TestAttestRace: the list grew after the quote. What the quote does not cover
// waits, is not judged, and has to be covered the next time.
func TestAttestRace(t *testing.T) {
	l := machine(5)
	all := l.Extends()
	broken := with(l, 5, func(e *build.Entry) { e.PCR = 11 })
	a := attest(t, broken.Bytes(), quoted(all[:4]))
	if a.Entries() != 4 || a.Carried() != 2 {
		t.Fatalf("%d entries, %d carried", a.Entries(), a.Carried())
	}
	state := a.State(ima.Judged{})
	short := build.New(l.Entries()[5:]...).Bytes()
	_, err := ima.Attest(ima.Segment{First: 4, Raw: short}, state, boot, quoted(all))
	wantCode(t, err, reason.IMATruncated)
	whole := build.New(l.Entries()[4:]...).Bytes()
	if b, err := ima.Attest(ima.Segment{First: 4, Raw: whole}, state, boot, quoted(all)); err != nil || b.Entries() != 6 {
		t.Errorf("%d entries (%v)", b.Entries(), err)
	}
}

// TestAttestOldKernels: the SHA-1 digest padded with zeros, PCR 0 to 7 alone in
// the aggregate, and the way that was found stays for the boot.
func TestAttestOldKernels(t *testing.T) {
	l := with(machine(3), 0, func(e *build.Entry) { *e = build.AggregateOver(firmware(), 7) })
	padded := l.PaddedExtends()
	a := attest(t, build.New(l.Entries()[:2]...).Bytes(), quoted(padded[:2]))
	if a.Extend() != ima.ExtendPadded || a.BootAggregate() != "PCR 0 to 7 of bank sha256" {
		t.Errorf("%s, %s", a.Extend(), a.BootAggregate())
	}
	rest := ima.Segment{First: 2, Raw: build.New(l.Entries()[2:]...).Bytes()}
	text, err := a.State(ima.Judged{}).MarshalText()
	var again ima.State
	if err != nil || again.UnmarshalText(text) != nil || again != a.State(ima.Judged{}) {
		t.Errorf("the state of padded digests is not read back: %s", text)
	}
	if b, err := ima.Attest(rest, a.State(ima.Judged{}), boot, quoted(padded)); err != nil || b.Extend() != ima.ExtendPadded {
		t.Errorf("%s (%v)", b.Extend(), err)
	}
	mixed := append(padded[:2:2], l.Extends()[2:]...)
	_, err = ima.Attest(rest, a.State(ima.Judged{}), boot, quoted(mixed))
	wantCode(t, err, reason.IMATruncated)
	own := l.Extends()
	b := attest(t, build.New(l.Entries()[:2]...).Bytes(), quoted(own[:2]))
	_, err = ima.Attest(rest, b.State(ima.Judged{}), boot, quoted(append(own[:2:2], padded[2:]...)))
	wantCode(t, err, reason.IMATruncated)
}

// TestAttestOtherBanks: SHA-384, and SHA-1 whose aggregate has PCR 0 to 7.
func TestAttestOtherBanks(t *testing.T) {
	pcrs, all := map[int][]byte{}, []byte{}
	for i := range 10 {
		pcrs[i] = bytes.Repeat([]byte{byte(i + 1)}, 48)
		all = append(all, pcrs[i]...)
	}
	sum := sha512.Sum384(all)
	e := build.Measured("ima-ng", build.Fields(append([]byte("sha384:\x00"), sum[:]...), build.Name("boot_aggregate")))
	list, err := ima.Parse(build.New(e).Bytes())
	if err != nil {
		t.Fatal(err)
	}
	pcrs[10] = list.Replay(ima.SHA384).PCR10
	a, err := ima.Attest(ima.Segment{Raw: build.New(e).Bytes()}, ima.State{}, boot, ima.Quoted{Bank: ima.SHA384, PCRs: pcrs})
	if err != nil || a.Entries() != 1 || len(a.PCR10()) != 48 {
		t.Errorf("%d entries (%v)", a.Entries(), err)
	}
	sha1Bank(t)
	text, err := a.State(ima.Judged{}).MarshalText()
	var again ima.State
	if err != nil || again.UnmarshalText(text) != nil || again != a.State(ima.Judged{}) {
		t.Errorf("the state of a SHA-384 bank is not read back: %s", text)
	}
}

// sha1Bank: with SHA-1 all kernels take PCR 0 to 7, and no more.
func sha1Bank(t *testing.T) {
	t.Helper()
	for _, last := range []int{7, 9} {
		pcrs, all := map[int][]byte{}, []byte{}
		for i := range 10 {
			pcrs[i] = bytes.Repeat([]byte{byte(i + 1)}, 20)
			if i <= last {
				all = append(all, pcrs[i]...)
			}
		}
		sum := sha1.Sum(all)
		raw := build.New(build.Measured("ima-ng", build.Fields(append([]byte("sha1:\x00"), sum[:]...), build.Name("boot_aggregate")))).Bytes()
		list, err := ima.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		pcrs[10] = list.Replay(ima.SHA1).PCR10
		_, err = ima.Attest(ima.Segment{Raw: raw}, ima.State{}, boot, ima.Quoted{Bank: ima.SHA1, PCRs: pcrs})
		if (err == nil) != (last == 7) {
			t.Errorf("aggregate over PCR 0 to %d: %v", last, err)
		}
	}
}

// concatenated is the content whose hash is the boot aggregate.
func concatenated() []byte {
	var all []byte
	pcrs := firmware()
	for i := range 10 {
		all = append(all, pcrs[i]...)
	}
	return all
}

// TestAttestViolation counts, also over several segments.
func TestAttestViolation(t *testing.T) {
	l := build.New(append(machine(1).Entries(), build.Violation("/var/log/x"), build.Violation("/y"))...)
	all := l.Extends()
	a := attest(t, l.Bytes(), quoted(all[:3]))
	if entry, path, ok := a.FirstViolation(); a.Violations() != 1 || entry != 2 || path != "/var/log/x" || !ok {
		t.Fatalf("%d violations, the first is entry %d, %s", a.Violations(), entry, path)
	}
	if _, _, ok := attest(t, build.New(l.Entries()[:2]...).Bytes(), quoted(all[:2])).FirstViolation(); ok {
		t.Error("a violation in a list without one")
	}
	rest := ima.Segment{First: 3, Raw: build.New(l.Entries()[3:]...).Bytes()}
	b, err := ima.Attest(rest, a.State(ima.Judged{}), boot, quoted(all))
	if entry, path, _ := b.FirstViolation(); entry != 3 || path != "/y" {
		t.Errorf("the first new violation is entry %d, %s", entry, path)
	}
	if err != nil || b.Violations() != 2 || b.State(ima.Judged{}).Violations() != 2 {
		t.Errorf("%d violations (%v)", b.Violations(), err)
	}
}
