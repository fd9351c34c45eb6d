package test

import (
	"bytes"
	"crypto/sha1" // of the legacy log
	"encoding/binary"
	"slices"
	"testing"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

type events = []build.Event

// Offsets in a generated log: in the Spec ID record, and in the first event.
var (
	firstEvent = len(build.New().Bytes())
	logOffset  = struct{ specSize, specSignature, specCount, specAlg1, specAlg2, digestCount, dataSize int }{
		28, 32 + 14, 32 + 24, 32 + 28, 32 + 32, firstEvent + 8, firstEvent + 12 + 2 + 20 + 2 + 32,
	}
)

// catalogueOfLogs: rows 68 to 74 and 81 to 83, encoding and replay.
func catalogueOfLogs() []row {
	put := func(at int, v uint32) change {
		return logBytes(func(b []byte) []byte { return put32le(b, at, v) })
	}
	spec := func(algs ...build.Algorithm) change {
		return logBytes(func(b []byte) []byte { return append(build.SpecID(algs...), b[firstEvent:]...) })
	}
	sha1Alg, sha256Alg := build.Algorithm{ID: 4, Size: 20}, build.Algorithm{ID: 11, Size: 32}
	application := func(e events, n int) int { return eventAt(e, 4, eventlog.TypeBootServicesApp, n) }
	locality := func(pcr int, v ...byte) build.Event {
		return build.Event{PCR: pcr, Type: eventlog.TypeNoAction, Data: append([]byte("StartupLocality\x00"), v...)}
	}
	front := func(extra ...build.Event) change {
		return otherLog(func(e events) events { return append(extra, e...) })
	}
	legacy := build.Legacy(0, eventlog.TypeSCRTMVersion, sha1.Sum(nil), []byte("v1"))
	return []row{
		{number: 68, name: "events of a PCR left out", cases: []forgery{
			{"PCR 4", otherLog(func(e events) events {
				return slices.DeleteFunc(e, func(e build.Event) bool { return e.PCR == 4 })
			}), reason.TPM2PCRUnexplained, refused},
			{"all", otherLog(func(events) events { return nil }), reason.TPM2PCRUnexplained, refused},
		}},
		{number: 69, name: "event dropped, moved or doubled", cases: []forgery{
			{"dropped", otherLog(func(e events) events { i := application(e, 1); return slices.Delete(e, i, i+1) }), reason.EventLogReplayMismatch, refused},
			{"swapped", otherLog(func(e events) events {
				i, j := application(e, 0), application(e, 1)
				e[i], e[j] = e[j], e[i]
				return e
			}), reason.EventLogReplayMismatch, refused},
			{"doubled", otherLog(func(e events) events { i := application(e, 1); return slices.Insert(e, i, e[i]) }), reason.EventLogReplayMismatch, refused},
			{"altered", otherLog(func(e events) events { e[application(e, 1)].SHA256[0] ^= 1; return e }), reason.EventLogReplayMismatch, refused},
		}},
		{number: 70, name: "log cut", cases: []forgery{
			{"inside the last record", logBytes(func(b []byte) []byte { return b[:len(b)-1] }), reason.EventLogTruncated, refused},
			{"inside the first", logBytes(func(b []byte) []byte { return b[:firstEvent+7] }), reason.EventLogTruncated, refused},
		}},
		{number: 71, name: "sizes in the log", cases: []forgery{
			{"event size ffffffff", put(logOffset.dataSize, 0xffffffff), reason.EventLogTruncated, refused},
			{"digest count 2^31", put(logOffset.digestCount, 1<<31), reason.EventLogTruncated, refused},
		}},
		{number: 72, name: "Spec ID", cases: []forgery{
			{"missing", logBytes(func(b []byte) []byte { return b[firstEvent:] }), reason.EventLogSpecID, refused},
			{"other signature", logBytes(func(b []byte) []byte { b[logOffset.specSignature] ^= 1; return b }), reason.EventLogSpecID, refused},
			{"0 algorithms", put(logOffset.specCount, 0), reason.EventLogSpecID, refused},
			{"2^32-1 algorithms", put(logOffset.specCount, 1<<32-1), reason.EventLogSpecID, refused},
			{"algorithm twice", spec(sha256Alg, sha256Alg), reason.EventLogSpecID, refused},
			{"SHA-256 of 20 bytes", spec(sha1Alg, build.Algorithm{ID: 11, Size: 20}), reason.EventLogSpecID, refused},
		}},
		{number: 73, name: "PCR index", cases: []forgery{
			{"24", put(firstEvent, 24), reason.EventLogPCRIndex, refused},
			{"ffffffff", put(firstEvent, 0xffffffff), reason.EventLogPCRIndex, refused},
		}},
		{number: 74, name: "EV_NO_ACTION", cases: []forgery{
			{"with a digest", otherLog(func(e events) events {
				l := locality(0, 0)
				l.SHA256[0] = 1
				return append(events{l}, e...)
			}), reason.EventLogNoAction, refused},
			{"locality late", otherLog(func(e events) events { return append(e, locality(0, 3)) }), reason.EventLogNoAction, refused},
			{"locality twice", front(locality(0, 0), locality(0, 3)), reason.EventLogNoAction, refused},
			{"locality 9", front(locality(0, 9)), reason.EventLogNoAction, refused},
		}},
		{number: 82, name: "SHA-1 right, SHA-256 wrong", cases: []forgery{
			{"one bit", otherLog(func(e events) events { e[application(e, 0)].SHA256[31] ^= 1; return e }), reason.EventLogReplayMismatch, refused},
			{"SHA-256 missing", logBytes(withoutSHA256), reason.EventLogDigests, refused},
		}},
		{number: 83, name: "SHA-1 alone and TPM 1.2", cases: []forgery{
			{"legacy log", logBytes(func([]byte) []byte { return legacy }), reason.EventLogSHA1Only, refused},
			{"TPM 1.2 quote", evidence(func(e *verifier.TPM2Evidence) { e.Quote = []byte("\x00\x36QUT2 and so on") }), reason.TPM2Version, refused},
			{"TPM 1.2 AK", evidence(func(e *verifier.TPM2Evidence) { e.AKPublic = append([]byte{0, 0, 0, 1}, make([]byte, 300)...) }), reason.TPM2Version, refused},
		}},
	}
}

// withoutSHA256 leaves the first event its SHA-1 digest alone.
func withoutSHA256(b []byte) []byte {
	sha256At := firstEvent + 12 + 2 + 20
	out := put32le(bytes.Clone(b[:sha256At]), logOffset.digestCount, 1)
	return append(out, b[sha256At+2+32:]...)
}

// catalogueOfGrammars: rows 75 to 81. The log replays, but does not prove what it
// says: its digests are the TPM's, types and data are the sender's.
func catalogueOfGrammars() []row {
	at := func(e events, name string) int {
		i := slices.IndexFunc(e, func(e build.Event) bool {
			return e.Type == eventlog.TypeVariableDriverConfig && bytes.Contains(e.Data, utf16Bytes(name))
		})
		return i
	}
	retype := func(name string, typ uint32) func(events) events {
		return func(e events) events { e[at(e, name)].Type = typ; return e }
	}
	append7 := func(extra ...build.Event) func(events) events {
		return func(e events) events { return append(e, extra...) }
	}
	separator := func(pcr int) build.Event { return measuredEvent(pcr, eventlog.TypeSeparator, make([]byte, 4)) }
	without := func(pcr int) func(events) events {
		return func(e events) events {
			i := eventAt(e, pcr, eventlog.TypeSeparator, 0)
			return slices.Delete(e, i, i+1)
		}
	}
	variable := func(name string, data []byte) func(events) events {
		return func(e events) events {
			e[at(e, name)] = measuredEvent(7, eventlog.TypeVariableDriverConfig, data)
			return e
		}
	}
	db := func(list []byte) change {
		return otherBoot(variable("db", build.VariableData(build.ImageSecurity, "db", list)), asMeasured)
	}
	list := build.Hashes("x", 3)
	state := secureBoot(7, 1).Data
	return []row{
		{number: 75, name: "SecureBoot retyped and a new one appended", cases: []forgery{
			{"EV_UNUSED", otherBoot(append7(secureBoot(7, 1)), retype("SecureBoot", eventlog.TypeUnused)), reason.EventLogPCR7Grammar, unproved},
			{"authority", otherBoot(append7(secureBoot(7, 1)), retype("SecureBoot", eventlog.TypeVariableAuthority)), reason.EventLogPCR7Grammar, unproved},
		}},
		{number: 76, name: "SecureBoot in another PCR", cases: []forgery{
			{"PCR 1 beside the real one", otherBoot(func(e events) events { return append(events{secureBoot(1, 1)}, e...) }, asMeasured), reason.EventLogPCR7Grammar, claimed},
			{"PCR 5 in its place", otherBoot(func(e events) events { e[at(e, "SecureBoot")] = secureBoot(5, 1); return e }, asMeasured), reason.EventLogPCR7Grammar, unproved},
		}},
		{number: 77, name: "data edited", cases: []forgery{
			{"SecureBoot 0 to 1", otherBoot(variable("SecureBoot", secureBoot(7, 0).Data), func(e events) events { e[at(e, "SecureBoot")].Data = state; return e }), reason.EventLogDataDigest, unproved},
		}},
		{number: 78, name: "separators", cases: []forgery{
			{"two in PCR 7", otherBoot(append7(separator(7)), asMeasured), reason.EventLogSeparator, unproved},
			{"none in PCR 7", otherBoot(without(7), asMeasured), reason.EventLogSeparator, unproved},
			{"two in PCR 5", otherBoot(append7(separator(5)), asMeasured), reason.EventLogSeparator, claimed},
			{"none in PCR 4", otherBoot(without(4), asMeasured), reason.EventLogSeparator, claimed},
		}},
		{number: 79, name: "application retyped", cases: []forgery{
			{"firmware blob", otherBoot(asMeasured, func(e events) events {
				e[eventAt(e, 4, eventlog.TypeBootServicesApp, 0)].Type = eventlog.TypePlatformFirmwareBlob
				return e
			}), reason.EventLogPCR4Grammar, claimed},
		}},
		{number: 80, name: "signature lists", cases: []forgery{
			{"header", db(build.SignatureList(build.GUID{}, make([]byte, 48), make([]byte, 48))), reason.EventLogSignatureList, claimed},
			{"size 12", db(put32le(bytes.Clone(list), 24, 12)), reason.EventLogSignatureList, claimed},
			{"list of 27 bytes", db(put32le(bytes.Clone(list), 16, 27)), reason.EventLogSignatureList, claimed},
		}},
		{number: 81, name: "length of a variable's name", cases: []forgery{
			{"2^63", otherBoot(variable("SecureBoot", nameLength(state, 1<<63)), asMeasured), reason.EventLogVariable, unproved},
			{"2^63 more", otherBoot(variable("SecureBoot", nameLength(state, 1<<63+10)), asMeasured), reason.EventLogVariable, unproved},
		}},
	}
}

func nameLength(data []byte, n uint64) []byte {
	out := bytes.Clone(data)
	binary.LittleEndian.PutUint64(out[16:], n)
	return out
}

func utf16Bytes(s string) []byte {
	var out []byte
	for i := range len(s) {
		out = append(out, s[i], 0)
	}
	return out
}

func TestCatalogueForgesLogsThatReplay(t *testing.T) {
	s := newRenewal(t)
	otherBoot(asMeasured, asMeasured)(t, s)
	got, err := s.judge()
	if err != nil || got.SecureBoot() != eventlog.SecureBootOn {
		t.Errorf("an unchanged boot: Secure Boot %s, %v", got.SecureBoot(), err)
	}
}
