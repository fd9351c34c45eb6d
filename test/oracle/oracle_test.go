// Package oracle compares the readers of event logs and the verifier of quotes
// with those of other projects. It is a module of its own, so that nothing of them can reach the
// product.
package oracle

import (
	"bytes"
	"crypto"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-attestation/attest"
	"github.com/google/go-eventlog/register"
	"github.com/google/go-eventlog/tcg"

	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Why ours is other.
const (
	onlySHA1 = "ours refuses: eventlog.sha1_only" // they replay SHA-1: two logs with one SHA-1 can be made
	noIndex  = "ours refuses: eventlog.pcr_index" // a record for PCR 0xffffffff, which they take for a PCR
	noSM3    = "they refuse: unknown algorithm"   // go-attestation has no SM3; ours needs only its size
)

// meant lists every difference, by the name of the log and the oracle. One that
// is gone has to leave it.
var meant = map[string]string{
	"google+go-attestation/ebs_event_missing_eventlog / go-attestation":     onlySHA1,
	"google+go-attestation/ebs_event_missing_eventlog / go-eventlog":        onlySHA1,
	"google+go-tpm-tools/debian-10.bin / go-attestation":                    onlySHA1,
	"google+go-tpm-tools/debian-10.bin / go-eventlog":                       onlySHA1,
	"kgoldman+acs/tpmbios.log / go-attestation":                             onlySHA1,
	"kgoldman+acs/tpmbios.log / go-eventlog":                                onlySHA1,
	"kgoldman+ibmtss/ideapad1.log / go-attestation":                         noIndex,
	"nsacyber+HIRS/hirs-TpmLogSHA1.bin / go-attestation":                    onlySHA1,
	"nsacyber+HIRS/hirs-TpmLogSHA1.bin / go-eventlog":                       onlySHA1,
	"tpm2-software+tpm2-tools/event-uefi-sha1-log.bin / go-attestation":     onlySHA1,
	"tpm2-software+tpm2-tools/event-uefi-sha1-log.bin / go-eventlog":        onlySHA1,
	"tpm2-software+tpm2-tss/binary_measurements_hcrtm.bin / go-attestation": noSM3,
}

// generated is the number of logs that need no vectors.
const generated = 2

// logs returns all event logs of the vectors by name, and generated ones.
func logs(t *testing.T) map[string][]byte {
	t.Helper()
	out := map[string][]byte{"generated": build.Machine{}.Log().Bytes(), "generated, other kernel": build.Machine{KernelVersion: "6.9"}.Log().Bytes()}
	dir, raw := vectorDir()
	if raw == nil {
		t.Logf("no vectors: %s is absent; only generated logs are compared", dir)
		return out
	}
	for line := range strings.Lines(string(raw)) {
		f := strings.Split(line, "\t")
		if f[1] != "eventlog" {
			continue
		}
		out[f[0]] = readVector(t, dir, f[0])
	}
	return out
}

// lines writes events as "PCR type digest".
type lines []string

func ours(raw []byte) (lines, error) {
	log, err := eventlog.Parse(raw)
	if err != nil {
		return nil, err
	}
	var out lines
	for _, e := range log.Events() {
		out = append(out, fmt.Sprintf("%d %08x %x", e.PCR, e.Type, e.Digest))
	}
	return out, nil
}

func goAttestation(raw []byte) (lines, error) {
	log, err := attest.ParseEventLog(raw)
	if err != nil {
		return nil, err
	}
	var out lines
	for _, e := range log.Events(attest.HashSHA256) {
		out = append(out, fmt.Sprintf("%d %08x %x", e.Index, uint32(e.Type), e.Digest))
	}
	return out, nil
}

func goEventLog(raw []byte) (lines, error) {
	log, err := tcg.ParseEventLog(raw, tcg.ParseOpts{})
	if err != nil {
		return nil, err
	}
	var out lines
	for _, e := range log.Events(register.HashSHA256) {
		out = append(out, fmt.Sprintf("%d %08x %x", e.Index, uint32(e.Type), e.Digest))
	}
	return out, nil
}

// TestLogs compares verdict for verdict and digest for digest.
func TestLogs(t *testing.T) {
	seen := map[string]bool{}
	compared := 0
	all := logs(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		mine, mineErr := ours(all[name])
		for oracle, read := range map[string]func([]byte) (lines, error){"go-attestation": goAttestation, "go-eventlog": goEventLog} {
			theirs, err := read(all[name])
			compared++
			difference := ""
			switch {
			case mineErr == nil && err != nil:
				difference = "they refuse: " + err.Error()
			case mineErr != nil && err == nil:
				difference = "ours refuses: " + string(reason.Of(mineErr))
			case mineErr == nil && !slices.Equal(mine, theirs):
				difference = fmt.Sprintf("%d and %d events, or other ones", len(mine), len(theirs))
			}
			if difference == "" {
				continue
			}
			key := name + " / " + oracle
			seen[key] = true
			if want, ok := meant[key]; !ok || !strings.HasPrefix(difference, want) {
				t.Errorf("%q: %s", key, difference)
			}
		}
	}
	for key := range meant {
		if !seen[key] && len(all) > generated {
			t.Errorf("%q is no difference any more", key)
		}
	}
	t.Logf("%d comparisons of %d logs, %d differ as meant", compared, len(all), len(seen))
}

// TestPCRWithoutEvents: both libraries take a quoted PCR of which the log has no
// event, whatever its value. Ours does not: so an attacker could drop all events
// of a PCR.
func TestPCRWithoutEvents(t *testing.T) {
	raw := build.Machine{}.Log().Bytes()
	log, err := eventlog.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	values := log.Replay()
	values[13] = bytes.Repeat([]byte{0xaa}, 32)
	quoted, theirs, mrs := map[int][]byte{}, []attest.PCR{}, []register.MR{}
	for i, v := range values {
		quoted[i] = v
		theirs = append(theirs, attest.PCR{Index: i, Digest: v, DigestAlg: crypto.SHA256})
		mrs = append(mrs, register.PCR{Index: i, Digest: v, DigestAlg: crypto.SHA256})
	}
	if _, err := log.Explain(quoted); reason.Of(err) != reason.TPM2PCRUnexplained {
		t.Errorf("ours: %v", err)
	}
	parsed, err := attest.ParseEventLog(raw)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parsed.Verify(theirs); err != nil {
		t.Errorf("go-attestation refuses by now: %v", err)
	}
	if _, err := tcg.ParseAndReplay(raw, mrs, tcg.ParseOpts{}); err != nil {
		t.Errorf("go-eventlog refuses by now: %v", err)
	}
}
