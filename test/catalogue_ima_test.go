package test

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/policy"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/ima"
	"github.com/zonebroker/zonebroker/verifier/ima/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// measuredFiles is what the good case measures behind the boot aggregate.
func measuredFiles() []build.Entry {
	return []build.Entry{
		build.File("/usr/lib/systemd/systemd", []byte("init")), build.File("/usr/bin/sh", []byte("sh")),
		build.File("/usr/bin/ls", []byte("ls")),
	}
}

// newMeasuring is a renewal of a host whose PCR 10 is asked for, with a zone that
// allows what lies under /usr.
func newMeasuring(t *testing.T) *specimen {
	t.Helper()
	s := newRenewal(t)
	s.want.Selection = tpm2.SelectionOf(append(evidencetest.Selection.Indexes(), 10)...)
	s.measure(t, s.list(), ima.Segment{})
	return s
}

func (s *specimen) list() []build.Entry {
	return append([]build.Entry{build.Aggregate(s.tpm.Values(evidencetest.Selection))}, measuredFiles()...)
}

// measure extends entries into PCR 10 and answers with a segment, by default all
// of them.
func (s *specimen) measure(t *testing.T, entries []build.Entry, seg ima.Segment) {
	t.Helper()
	l := build.New(entries...)
	s.tpm.PCRs[10] = [32]byte(build.PCR10(l.Extends()))
	s.answer(t)
	if seg.Raw == nil {
		seg.Raw = l.Bytes()
	}
	s.ev.TPM2.IMA = &seg
}

// otherMeasurements has the kernel measure something else.
func otherMeasurements(f func(e []build.Entry) []build.Entry) change {
	return func(t *testing.T, s *specimen) { s.measure(t, f(s.list()), ima.Segment{}) }
}

// otherList presents another list for the same PCR 10.
func otherList(f func(e []build.Entry) []build.Entry) change {
	return func(_ *testing.T, s *specimen) { s.ev.TPM2.IMA.Raw = build.New(f(s.list())...).Bytes() }
}

func listBytes(f func(b []byte) []byte) change {
	return evidence(func(e *verifier.TPM2Evidence) { e.IMA.Raw = f(slices.Clone(e.IMA.Raw)) })
}

// newLaterMeasuring is the renewal after one that attested the list so far: only
// one file is new.
func newLaterMeasuring(t *testing.T) *specimen {
	t.Helper()
	s := newMeasuring(t)
	got, err := s.judge()
	must(t, err)
	s.want.Baseline.IMA = got.IMA().State(ima.Judged{})
	s.tpm.Wait(time.Minute)
	next := build.File("/usr/bin/cat", []byte("cat"))
	all := append(s.list(), next)
	s.measure(t, all, ima.Segment{First: uint64(len(all) - 1), Raw: build.New(next).Bytes()})
	return s
}

// Offsets in the first record of a list: PCR and digest, then the lengths of the
// template's name and data.
const (
	listName = 4 + 20
	listData = listName + 4 + len("ima-ng")
)

// catalogueOfIMA: rows 84 to 93.
func catalogueOfIMA() []row {
	put := func(at int, v uint32) change {
		return listBytes(func(b []byte) []byte { binary.LittleEndian.PutUint32(b[at:], v); return b })
	}
	more := func(e build.Entry) change {
		return otherMeasurements(func(l []build.Entry) []build.Entry { return append(l, e) })
	}
	zero := build.File("/usr/bin/sh", []byte("sh"))
	zero.Digest = [20]byte{}
	elsewhere := build.File("/usr/bin/sh", []byte("sh"))
	elsewhere.PCR = 11
	return []row{
		{number: 84, name: "IMA list shorter than PCR 10", good: newMeasuring, cases: []forgery{
			{"last entry dropped", otherList(func(e []build.Entry) []build.Entry { return e[:len(e)-1] }), reason.IMATruncated, refused},
			{"cut inside an entry", listBytes(func(b []byte) []byte { return b[:len(b)-1] }), reason.IMATruncated, refused},
		}},
		{number: 85, name: "IMA digest", good: newMeasuring, cases: []forgery{
			{"not that of the data", otherList(func(e []build.Entry) []build.Entry { e[2].Digest[0] ^= 1; return e }), reason.IMADigest, refused},
			{"data not that of the digest", otherList(func(e []build.Entry) []build.Entry {
				e[2].Data = build.File("/usr/bin/sh", []byte("another")).Data
				return e
			}), reason.IMADigest, refused},
		}},
		{number: 86, name: "IMA violation", good: newMeasuring, cases: []forgery{
			{"by policy", more(build.Violation("/usr/bin/sh")), reason.IMAViolation, unmeasured},
		}},
		{number: 87, name: "zero digest over other data", good: newMeasuring, cases: []forgery{
			{"treated as a violation", more(zero), reason.IMAViolation, unmeasured},
		}},
		{number: 88, name: "IMA template", good: newMeasuring, cases: []forgery{
			{"unknown", more(build.Measured("n-ng|d-ng", zero.Data)), reason.IMATemplateUnknown, refused},
			{"unknown hash algorithm", more(build.Measured("ima-ng", build.Fields(append([]byte("unknown:\x00"), make([]byte, 32)...), build.Name("/usr/bin/sh")))), reason.IMATemplateUnknown, refused},
		}},
		{number: 89, name: "IMA lengths and paths", good: newMeasuring, cases: []forgery{
			{"template of 2^31 bytes", put(listData, 1<<31), reason.IMAEncoding, refused},
			{"name of 0 bytes", put(listName, 0), reason.IMAEncoding, refused},
			{"name of 256 bytes", put(listName, 256), reason.IMAEncoding, refused},
			{"newline in a path", more(build.File("/usr/bin/a\nb", nil)), reason.IMAEncoding, refused},
			{"NUL in a path", more(build.File("/usr/bin/a\x00b", nil)), reason.IMAEncoding, refused},
		}},
		{number: 90, name: "IMA entry of another PCR", good: newMeasuring, cases: []forgery{
			{"11", more(elsewhere), reason.IMAPCR, refused},
		}},
		{number: 91, name: "boot aggregate", good: newMeasuring, cases: []forgery{
			{"of another boot", otherMeasurements(func(e []build.Entry) []build.Entry {
				e[0] = build.Aggregate(map[int][]byte{})
				return e
			}), reason.IMABootAggregate, refused},
		}},
		{number: 92, name: "IMA offset", good: newLaterMeasuring, cases: []forgery{
			{"beyond the stored", evidence(func(e *verifier.TPM2Evidence) { e.IMA.First++ }), reason.IMAOffset, refused},
			{"after a reboot without a reset", func(t *testing.T, s *specimen) {
				seg := *s.ev.TPM2.IMA
				s.tpm.Clock.ResetCount++
				s.answer(t)
				s.ev.TPM2.IMA = &seg
			}, reason.IMAOffset, refused},
		}},
		{number: 93, name: "files outside the list of allowed ones", good: newMeasuring, cases: []forgery{
			{"unknown hash", more(build.File("/opt/tool", []byte("tool"))), reason.IMADenied, unmeasured},
			{"path trick", more(build.File("/usr/bin/../../opt/tool", []byte("tool"))), reason.IMADenied, unmeasured},
		}},
	}
}

// filesZone allows what lies under /usr, by path.
func filesZone(t *testing.T) *policy.Set {
	t.Helper()
	return zoneOf(t, "secure_boot: true, ima: {files: [usr]}", policy.File{Name: "files.yaml", Bytes: []byte(
		"apiVersion: zonebroker/v1\nkind: FileSet\nname: usr\npaths: ['/usr/.*']\n",
	)})
}
