package oracle

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/conformance"
	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// algorithmIDs are the TPM_ALG_IDs of the banks that tpm2_eventlog names.
var algorithmIDs = map[string]eventlog.Bank{"sha1": 0x04, "sha256": 0x0b, "sha384": 0x0c, "sha512": 0x0d, "sm3_256": 0x12}

// toolMeant lists the logs of which only one of the two can be read. One that is
// gone has to leave it.
var toolMeant = map[string]string{
	// Its vendor data lies outside the event, where the next record has to begin.
	"tpm2-software+tpm2-tools/specid-vendordata.bin": "ours refuses: eventlog.spec_id",
}

// theirEvents reads the YAML of tpm2_eventlog into "PCR bank=digest …" per event,
// in the order of the log. The Spec ID record has a digest and no Digests.
func theirEvents(yaml []byte) ([]string, error) {
	var out []string
	var bank eventlog.Bank
	for l := range strings.Lines(string(yaml)) {
		l = strings.TrimRight(l, "\n")
		if l == "pcrs:" {
			break
		}
		if pcr, ok := strings.CutPrefix(l, "  PCRIndex: "); ok {
			out = append(out, pcr)
		}
		if name, ok := strings.CutPrefix(l, "  - AlgorithmId: "); ok {
			if bank, ok = algorithmIDs[name]; !ok {
				return nil, errors.New("unknown bank " + name)
			}
		}
		if digest, ok := strings.CutPrefix(l, "    Digest: "); ok && bank != 0 {
			out[len(out)-1] += fmt.Sprintf(" %04x=%s", bank, strings.Trim(digest, `"`))
			bank = 0
		}
		if l == "  SpecID:" {
			out = out[:len(out)-1]
		}
	}
	return out, nil
}

func ourEvents(list eventlog.Listing) []string {
	var out []string
	for _, r := range list.Records {
		text := fmt.Sprint(r.PCR)
		for _, d := range r.Digests {
			text += fmt.Sprintf(" %04x=%s", d.Bank, hex.EncodeToString(d.Digest))
		}
		out = append(out, text)
	}
	return out
}

// TestTPM2EventLog compares with tpm2_eventlog which logs can be read at all, the
// digests of every event in all its banks, and the replayed values.
func TestTPM2EventLog(t *testing.T) {
	program := newTools(t)
	events, digests, values, noActions := 0, 0, 0, 0
	all := logs(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		file := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(file, all[name], 0o600); err != nil {
			t.Fatal(err)
		}
		list, mine := eventlog.Inspect(all[name])
		out, theirs := program.run(t, "tpm2_eventlog", file)
		if got := difference(mine, theirs); got != toolMeant[name] {
			t.Errorf("%s: %q, want %q", name, got, toolMeant[name])
		}
		if mine != nil || theirs != nil {
			continue
		}
		read, err := theirEvents(out)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		own := ourEvents(list)
		if len(own) != len(read) {
			t.Errorf("%s: %d events, tpm2_eventlog has %d", name, len(own), len(read))
			continue
		}
		for i := range own {
			events++
			digests += strings.Count(own[i], "=")
			if own[i] != read[i] {
				t.Errorf("%s, event %d: %s, tpm2_eventlog says %s", name, i+1, own[i], read[i])
			}
		}
		n, extended := compareReplay(t, name, list, out)
		values, noActions = values+n, noActions+extended
	}
	t.Logf("%d logs: %d digests of %d events compared, and %d replayed values, %d of them with EV_NO_ACTION extended",
		len(all), digests, events, values, noActions)
}

// compareReplay compares the values of the SHA-256 bank: how many, and how many of
// them only with EV_NO_ACTION extended.
func compareReplay(t *testing.T, name string, list eventlog.Listing, yaml []byte) (compared, noActions int) {
	t.Helper()
	if !slices.Contains(list.Banks, eventlog.SHA256) {
		return 0, 0
	}
	_, pcrs, ok := bytes.Cut(yaml, []byte("\npcrs:\n"))
	if !ok {
		t.Errorf("%s: tpm2_eventlog prints no PCRs", name)
		return 0, 0
	}
	theirs, err := conformance.PCRValues(append([]byte("pcrs:\n"), pcrs...), tpm2.BankSHA256)
	if err != nil {
		t.Errorf("%s: %v", name, err)
	}
	values, _ := list.Replay(eventlog.SHA256)
	for pcr, v := range theirs {
		compared++
		// tpm2_eventlog 5.4 extends EV_NO_ACTION records, which extend nothing; the
		// published values of these machines are ours.
		if !bytes.Equal(values[pcr], v) && bytes.Equal(withNoAction(list, pcr), v) {
			noActions++
			continue
		}
		if !bytes.Equal(values[pcr], v) {
			t.Errorf("%s: PCR %d is %x, tpm2_eventlog says %x", name, pcr, values[pcr], v)
		}
	}
	return compared, noActions
}

// withNoAction replays a PCR as if EV_NO_ACTION records extended it.
func withNoAction(list eventlog.Listing, pcr int) []byte {
	value := make([]byte, sha256.Size)
	for _, e := range list.Events(eventlog.SHA256) {
		if e.PCR == pcr {
			sum := sha256.Sum256(append(value, e.Digest...))
			value = sum[:]
		}
	}
	return value
}
