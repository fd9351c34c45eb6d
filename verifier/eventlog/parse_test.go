package eventlog_test

import (
	"bytes"
	"crypto/sha1"
	"fmt"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestParseRefuses changes one field of a good log at a time.
func TestParseRefuses(t *testing.T) {
	events, _ := machine(build.Machine{})
	good := build.New(events...).Bytes()
	if _, err := eventlog.Parse(good); err != nil {
		t.Fatal(err)
	}
	// Offsets in the first record and in the first event behind it.
	const (
		specPCR, specType, specDigest, specLength = 0, 4, 8, 28
		specSignature                             = 32 + 14
		specUintn                                 = 32 + 23
		specCount                                 = 32 + 24
		specAlg                                   = 32 + 28
	)
	first := specIDSize
	digestCount, alg1, alg2 := first+8, first+12, first+12+2+sha1.Size
	size := alg2 + 2 + 32
	vendor := bytes.Clone(good)
	vendor[specIDSize-1] = 4 // vendor info of four bytes that are not there

	for name, c := range map[string]struct {
		raw  []byte
		want reason.Code
	}{
		"tpm-71_event_size_ffffffff":             {put32(good, size, 0xffffffff), reason.EventLogTruncated},
		"tpm-71_event_size_one_past_the_end":     {put32(good[:size+4], size, 1), reason.EventLogTruncated},
		"tpm-71_digest_count_2_31":               {put32(good, digestCount, 1<<31), reason.EventLogTruncated},
		"tpm-71_spec_id_size_ffffffff":           {put32(good, specLength, 0xffffffff), reason.EventLogSpecID},
		"T27_digest_count_above_the_spec_id":     {put32(good, digestCount, 3), reason.EventLogDigests},
		"tpm-72_spec_id_record_missing":          {good[specIDSize:], reason.EventLogSpecID},
		"tpm-72_spec_id_of_another_type":         {put32(good, specType, eventlog.TypeAction), reason.EventLogSpecID},
		"tpm-72_spec_id_extends_pcr_1":           {put32(good, specPCR, 1), reason.EventLogSpecID},
		"tpm-72_spec_id_with_digest":             {put32(good, specDigest, 1), reason.EventLogSpecID},
		"tpm-72_wrong_signature":                 {put16(good, specSignature-1, 0x3034), reason.EventLogSpecID},
		"tpm-72_wrong_signature_alone":           {put16(good, specSignature-1, 0x3034)[:specIDSize], reason.EventLogSpecID},
		"tpm-72_algorithms_0":                    {put32(good, specCount, 0), reason.EventLogSpecID},
		"tpm-72_T27_algorithms_ffffffff":         {put32(good, specCount, 0xffffffff), reason.EventLogSpecID},
		"tpm-72_algorithms_more_than_fit":        {put32(good, specCount, 3), reason.EventLogSpecID},
		"tpm-72_no_algorithm":                    {build.SpecID(), reason.EventLogSpecID},
		"tpm-72_algorithm_twice":                 {build.SpecID(build.Algorithm{ID: 11, Size: 32}, build.Algorithm{ID: 11, Size: 32}), reason.EventLogSpecID},
		"tpm-72_sha1_of_32_bytes":                {put16(good, specAlg+2, 32), reason.EventLogSpecID},
		"tpm-72_sha256_of_20_bytes":              {put16(good, specAlg+6, 20), reason.EventLogSpecID},
		"tpm-72_unknown_algorithm_of_no_size":    {put32(good, specAlg, 0x0099), reason.EventLogSpecID},
		"tpm-72_unknown_algorithm_of_65535":      {put32(good, specAlg, 0xffff0099), reason.EventLogSpecID},
		"tpm-72_uintn_size_3":                    {put32(good, specUintn-3, 0x03020200), reason.EventLogSpecID},
		"tpm-72_vendor_info_outside_the_record":  {vendor, reason.EventLogSpecID},
		"tpm-72_bytes_behind_vendor_info":        {put32(append(bytes.Clone(good[:specIDSize]), 0), specLength, uint32(specIDSize-31)), reason.EventLogSpecID},
		"tpm-73_pcr_24":                          {put32(good, first, 24), reason.EventLogPCRIndex},
		"tpm-73_pcr_ffffffff":                    {put32(good, first, 0xffffffff), reason.EventLogPCRIndex},
		"tpm-82_digest_of_an_unnamed_algorithm":  {put16(good, alg1, 0x000c), reason.EventLogDigests},
		"tpm-82_sha256_digest_missing":           {onlySHA1(good, first), reason.EventLogDigests},
		"tpm-82_no_digest_at_all":                {put32(good, digestCount, 0), reason.EventLogDigests},
		"T27_empty_log":                          {nil, reason.EventLogTruncated},
		"T27_one_byte":                           {good[:1], reason.EventLogTruncated},
		"T27_fill_bytes_ff_at_the_end":           {append(bytes.Clone(good), bytes.Repeat([]byte{0xff}, 64)...), reason.EventLogPCRIndex},
		"T27_fill_bytes_00_at_the_end":           {append(bytes.Clone(good), 0, 0, 0, 0), reason.EventLogTruncated},
		"tpm-83_T31_spec_id_names_sha1_alone":    {build.SpecID(build.Algorithm{ID: 4, Size: 20}), reason.EventLogSHA1Only},
		"tpm-83_T31_legacy_records":              {legacy(), reason.EventLogSHA1Only},
		"tpm-83_T31_legacy_spec_id_02":           {append(build.Legacy(0, 3, [20]byte{}, []byte("Spec ID Event02\x00\x00\x00")), legacy()...), reason.EventLogSHA1Only},
		"tpm-82_spec_id_names_sha384_alone":      {build.SpecID(build.Algorithm{ID: 0xc, Size: 48}), reason.EventLogDigests},
		"tpm-72_legacy_records_cut_short":        {legacy()[:60], reason.EventLogSpecID},
		"tpm-72_legacy_record_names_pcr_24":      {put32(legacy(), 0, 24), reason.EventLogSpecID},
		"tpm-72_more_algorithms_than_any_tpm":    {manyAlgorithms(17), reason.EventLogSpecID},
		"tpm-74_no_action_with_digest":           {digestOnNoAction(), reason.EventLogNoAction},
		"tpm-74_T26_locality_9":                  {withLocality(startupLocality(0, "\x09")), reason.EventLogNoAction},
		"tpm-74_T26_locality_1":                  {withLocality(startupLocality(0, "\x01")), reason.EventLogNoAction},
		"tpm-74_T26_locality_twice":              {withLocality(startupLocality(0, "\x03"), startupLocality(0, "\x03")), reason.EventLogNoAction},
		"tpm-74_T26_locality_0_then_3":           {withLocality(startupLocality(0, "\x00"), startupLocality(0, "\x03")), reason.EventLogNoAction},
		"tpm-74_T26_locality_in_pcr_1":           {withLocality(startupLocality(1, "\x03")), reason.EventLogNoAction},
		"tpm-74_T26_locality_without_value":      {withLocality(startupLocality(0, "")), reason.EventLogNoAction},
		"tpm-74_T26_locality_of_two_bytes":       {withLocality(startupLocality(0, "\x03\x00")), reason.EventLogNoAction},
		"tpm-74_T26_locality_after_pcr_0_events": {build.New(append(events, startupLocality(0, "\x03"))...).Bytes(), reason.EventLogNoAction},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := eventlog.Parse(c.raw)
			wantCode(t, err, c.want)
		})
	}
	t.Run("tpm-82_sha256_digest_twice", func(t *testing.T) {
		// Two SHA-1 digests first: the record stays well formed for the count.
		_, err := eventlog.Parse(twoDigests(good, first))
		wantCode(t, err, reason.EventLogDigests)
	})
}

// onlySHA1 takes the SHA-256 digest out of the first event.
func onlySHA1(good []byte, first int) []byte {
	out := put32(good[:first+12+2+20], first+8, 1)
	return append(out, good[first+12+2+20+2+32:]...)
}

// twoDigests puts a second SHA-256 digest in the place of the SHA-1 one.
func twoDigests(good []byte, first int) []byte {
	out := bytes.Clone(good[:first+12])
	sha256Digest := good[first+12+22 : first+12+22+34]
	out = append(append(out, sha256Digest...), sha256Digest...)
	return append(out, good[first+12+22+34:]...)
}

func legacy() []byte {
	return append(build.Legacy(0, eventlog.TypeSCRTMVersion, sha1.Sum(nil), []byte("v1")), build.Legacy(4, eventlog.TypeIPL, sha1.Sum(nil), []byte("boot"))...)
}

func manyAlgorithms(n int) []byte {
	var algs []build.Algorithm
	for i := range n {
		algs = append(algs, build.Algorithm{ID: uint16(0x1000 + i), Size: 32})
	}
	return build.SpecID(algs...)
}

func withLocality(e ...build.Event) []byte {
	events, _ := machine(build.Machine{})
	return build.New(append(e, events...)...).Bytes()
}

func digestOnNoAction() []byte {
	e := startupLocality(0, "\x03")
	e.SHA256[0] = 1
	return withLocality(e)
}

// TestTruncation_tpm-70 cuts a log at every byte: only cuts between records leave
// a log, and that one lacks events.
func TestTruncation(t *testing.T) {
	t.Run("tpm-70_every_byte", func(t *testing.T) {
		events, quoted := machine(build.Machine{})
		good := build.New(events...).Bytes()
		whole := map[int]bool{specIDSize: true}
		for i := range events {
			whole[len(build.New(events[:i+1]...).Bytes())] = true
		}
		for n := range good {
			_, err := eventlog.Parse(good[:n])
			if whole[n] {
				if err != nil {
					t.Fatalf("cut between records at %d: %v", n, err)
				}
				if _, err := explain(good[:n], quoted); err == nil {
					t.Fatalf("log cut at %d explains the whole boot", n)
				}
				continue
			}
			// Inside the Spec ID record nothing tells a cut from a missing record.
			if got := reason.Of(err); got != reason.EventLogTruncated && (got != reason.EventLogSpecID || n > specIDSize) {
				t.Fatalf("cut at %d: %v", n, err)
			}
		}
	})
}

func TestParseTolerates(t *testing.T) {
	events, _ := machine(build.Machine{})
	good := build.New(events...).Bytes()
	body := good[specIDSize:]
	withVendor := build.SpecID(build.Algorithm{ID: 4, Size: 20}, build.Algorithm{ID: 11, Size: 32})
	withVendor = append(put32(withVendor[:len(withVendor)-1], 28, uint32(len(withVendor)-32+4)), 4, 'a', 'b', 'c', 'd')
	for name, raw := range map[string][]byte{
		"vendor info inside the record":             append(withVendor, body...),
		"fewer digests than the Spec ID names":      append(build.SpecID(build.Algorithm{ID: 4, Size: 20}, build.Algorithm{ID: 11, Size: 32}, build.Algorithm{ID: 12, Size: 48}), body...),
		"an unknown algorithm of a possible size":   append(build.SpecID(build.Algorithm{ID: 4, Size: 20}, build.Algorithm{ID: 11, Size: 32}, build.Algorithm{ID: 0x99, Size: 24}), body...),
		"no event at all":                           good[:specIDSize],
		"no action record of a vendor":              build.New(append([]build.Event{{Type: eventlog.TypeNoAction, PCR: 5, Data: []byte("SP800-155 Event3")}}, events...)...).Bytes(),
		"an event without data":                     build.New(measured(9, eventlog.TypeIPL, nil)).Bytes(),
		"a type that nobody knows":                  build.New(measured(9, 0xdeadbeef, []byte("x"))).Bytes(),
		"startup locality 0 before the first event": withLocality(startupLocality(0, "\x00")),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := eventlog.Parse(raw); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestEventsAreNumberedFromOne(t *testing.T) {
	log, err := eventlog.Parse(build.Machine{}.Log().Bytes())
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range log.Events() {
		if e.Index != i+1 {
			t.Fatalf("event %d has index %d", i, e.Index)
		}
	}
	log.Events()[0].PCR = 9
	if log.Events()[0].PCR != 0 {
		t.Error("the caller can change the log")
	}
}

// TestStartupLocality: the locality is the last byte of PCR 0 before the first
// extend, and of no other PCR.
func TestStartupLocality(t *testing.T) {
	for _, locality := range []byte{0, 3, 4} {
		t.Run(fmt.Sprintf("T26_locality_%d", locality), func(t *testing.T) {
			log, err := eventlog.Parse(build.New(startupLocality(0, string(locality))).Bytes())
			if err != nil {
				t.Fatal(err)
			}
			want := make([]byte, 32)
			want[31] = locality
			got := log.Replay()
			if !bytes.Equal(got[0], want) {
				t.Errorf("PCR 0 starts at %x", got[0])
			}
			if !bytes.Equal(got[1], make([]byte, 32)) {
				t.Errorf("PCR 1 starts at %x", got[1])
			}
			if _, err := log.Explain(map[int][]byte{0: want}); err != nil {
				t.Error(err)
			}
			if locality != 0 {
				_, err := log.Explain(map[int][]byte{0: make([]byte, 32)})
				wantCode(t, err, reason.TPM2PCRUnexplained)
			}
		})
	}
}
