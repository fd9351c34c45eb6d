package test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/zonebroker/zonebroker/broker/agent"
	"github.com/zonebroker/zonebroker/broker/agent/swtpm"
	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// everyPCR makes the broker ask for all PCRs that a log of firmware or systemd can
// explain: what the sets of a policy name is what a quote has to have.
const everyPCR = `apiVersion: zonebroker/v1
kind: ReferenceSet
name: every-pcr
bank: sha256
events: {8: [%[1]s], 9: [%[1]s], 11: [%[1]s], 12: [%[1]s], 13: [%[1]s], 14: [%[1]s], 15: [%[1]s]}
`

// atOnce bounds how many software TPMs boot and attest at a time.
var atOnce = make(chan struct{}, 2)

// bootedBroker is a broker that asks for every PCR.
func bootedBroker(t *testing.T) *replica {
	t.Helper()
	return newCluster(t, labZone, fmt.Sprintf(everyPCR, strings.Repeat("ab", 32))).start(t)
}

// bootedHost is an admitted host whose TPM was started and extended as a machine
// with that log would have, and that shows logs of its own.
func bootedHost(t *testing.T, p *replica, s swtpm.Startup, extends []build.Extend) *host {
	t.Helper()
	h := newHost(t, p.cluster.rig)
	must(t, h.tpm.RebootAs(t.Context(), s, extends))
	h.admit(p)
	return h
}

// shows replaces the logs that the agent of a host reads.
func (h *host) shows(t *testing.T, log, userspace []byte) {
	t.Helper()
	h.userspace = filepath.Join(h.dir, "userspace")
	must(t, os.WriteFile(h.log, log, 0o600))
	must(t, os.WriteFile(h.userspace, userspace, 0o600))
}

// TestRealBoots boots a fresh software TPM through every event log of the vectors
// and attests it by the agent's own code to a running broker. What the manifest
// refuses has to end in a denial with its code; of what it accepts, a copy that is
// cut and one that is altered have to be denied first.
func TestRealBoots(t *testing.T) {
	logs := vectorLogs(t)
	p := bootedBroker(t)
	var accepted, denied, skipped atomic.Int64
	t.Run("logs", func(t *testing.T) {
		for _, v := range logs {
			t.Run(v.path, func(t *testing.T) {
				t.Parallel()
				atOnce <- struct{}{}
				defer func() { <-atOnce }()
				extends, startup, left := bootOfVector(t, v.raw)
				skipped.Add(int64(left))
				h := bootedHost(t, p, startup, extends)
				if v.code != "" {
					h.denies(t, p, v.raw, nil, v.code)
					denied.Add(1)
					return
				}
				h.denies(t, p, v.raw[:len(v.raw)-3], nil, reason.EventLogTruncated)
				h.denies(t, p, alteredLog(t, v.raw), nil, reason.EventLogReplayMismatch)
				denied.Add(2)
				h.shows(t, v.raw, nil)
				h.mustAttest(p)
				accepted.Add(1)
			})
		}
	})
	t.Logf("%d logs: %d accepted, %d attestations denied with their code; %d events of PCR 17 to 22 cannot be extended at locality 0",
		len(logs), accepted.Load(), denied.Load(), skipped.Load())
	if accepted.Load() < 20 || denied.Load() < 45 {
		t.Error("too few logs ran")
	}
}

// denies demands that the logs end in a denial with that code.
func (h *host) denies(t *testing.T, p *replica, log, userspace []byte, want reason.Code) {
	t.Helper()
	h.shows(t, log, userspace)
	_, err := h.attest(p)
	wantCode(t, err, want)
}

// vectorLog is an event log of the manifest, and the code with which it is
// refused as a whole, "" for one that replays.
type vectorLog struct {
	path string
	code reason.Code
	raw  []byte
}

func vectorLogs(t *testing.T) []vectorLog {
	t.Helper()
	dir := os.Getenv("ZONEBROKER_VECTORS")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "vectors")
	}
	dir = filepath.Join(dir, "tpm")
	f, err := os.Open(filepath.Join(dir, "MANIFEST.tsv"))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("no test vectors: set ZONEBROKER_VECTORS to the folder that holds them")
	}
	must(t, err)
	defer f.Close()
	var out []vectorLog
	for s := bufio.NewScanner(f); s.Scan(); {
		c := strings.Split(s.Text(), "\t")
		at := slices.IndexFunc(out, func(v vectorLog) bool { return v.path == c[0] })
		if c[1] != "eventlog" || !strings.Contains(c[4], "check=replay") || at >= 0 {
			continue
		}
		v := vectorLog{path: c[0]}
		// A refusal that comes of the published PCRs says nothing about the log: this
		// TPM has those that the log leads to.
		if c[2] == "reject" && !strings.Contains(c[4], "pcrs=") {
			v.code = reason.Code(c[3])
		}
		if v.raw, err = os.ReadFile(filepath.Join(dir, c[0])); err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
	return out
}

// bootOfVector is what the firmware that wrote a log told its TPM, as far as the
// log can be read, and how many events a TPM at locality 0 does not take.
func bootOfVector(t *testing.T, raw []byte) (extends []build.Extend, s swtpm.Startup, left int) {
	t.Helper()
	listing, err := eventlog.Inspect(raw)
	if err != nil {
		t.Logf("listed up to event %d: %v", len(listing.Records), err)
	}
	for _, e := range build.ExtendsOf(listing) {
		if e.PCR >= 17 && e.PCR <= 22 {
			left++
			continue
		}
		extends = append(extends, e)
	}
	return extends, swtpm.Startup{Locality: listing.Locality()}, left
}

// alteredLog flips a bit in the SHA-256 digest of the last event that extends one
// of the quoted PCRs.
func alteredLog(t *testing.T, raw []byte) []byte {
	t.Helper()
	log, err := eventlog.Parse(raw)
	must(t, err)
	out := bytes.Clone(raw)
	for _, e := range slices.Backward(log.Events()) {
		if e.Type != eventlog.TypeNoAction && e.PCR < 10 {
			out[bytes.LastIndex(out, e.Digest)] ^= 1
			return out
		}
	}
	t.Fatal("no event to alter")
	return nil
}

// TestGeneratedBoots attests the boots that no vector has: a unified kernel with
// systemd's own log, systemd-boot with an entry, TPMs that were started at
// locality 3 or measured by an H-CRTM.
func TestGeneratedBoots(t *testing.T) {
	p := bootedBroker(t)
	user := build.Booted("ready", "0123456789abcdef0123456789abcdef")
	early := build.Booted("sysinit", "0123456789abcdef0123456789abcdef")
	hcrtm := []byte("hardware core root of trust")
	at3, at4 := build.New(), build.New()
	at3.StartupLocality(3)
	at4.StartupLocality(4)
	at4.MeasureAs(0, eventlog.TypeHCRTMEvent, hcrtm, []byte("HCRTM"))
	rest := build.Machine{}.Log().Events()
	for name, tt := range map[string]struct {
		log     *build.Builder
		user    *build.Userspace // as extended
		shown   *build.Userspace // as sent
		startup swtpm.Startup
		skip    int // events that the start of the TPM has made
		want    reason.Code
	}{
		"GRUB":                           {log: build.Machine{}.Log()},
		"systemd-boot":                   {log: build.Machine{SystemdBoot: true}.Log()},
		"unified kernel":                 {log: build.Machine{UKI: true}.Log(), user: user, shown: user},
		"unified kernel, log is longer":  {log: build.Machine{UKI: true}.Log(), user: early, shown: user},
		"unified kernel, log is shorter": {log: build.Machine{UKI: true}.Log(), user: user, shown: early, want: reason.EventLogReplayMismatch},
		"unified kernel, no user log":    {log: build.Machine{UKI: true}.Log(), user: user, want: reason.TPM2PCRUnexplained},
		"GRUB, NV index in PCR 9":        {log: build.Machine{}.Log(), user: user, shown: user},
		"locality 3":                     {log: build.New(append(at3.Events(), rest...)...), startup: swtpm.Startup{Locality: 3}},
		"locality 3 is not 0":            {log: build.New(rest...), startup: swtpm.Startup{Locality: 3}, want: reason.EventLogReplayMismatch},
		"H-CRTM":                         {log: build.New(append(at4.Events(), rest...)...), startup: swtpm.Startup{HCRTM: hcrtm}, skip: 1},
		"another H-CRTM":                 {log: build.New(append(at4.Events(), rest...)...), startup: swtpm.Startup{HCRTM: []byte("x")}, skip: 1, want: reason.EventLogReplayMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			atOnce <- struct{}{}
			defer func() { <-atOnce }()
			extends := tt.log.Extends()[tt.skip:]
			if tt.user != nil {
				extends = append(extends, tt.user.Extends()...)
			}
			h := bootedHost(t, p, tt.startup, extends)
			var shown []byte
			if tt.shown != nil {
				shown = tt.shown.Bytes()
			}
			if tt.want != "" {
				h.denies(t, p, tt.log.Bytes(), shown, tt.want)
				return
			}
			h.shows(t, tt.log.Bytes(), shown)
			h.mustAttest(p)
			res := h.mustAttest(p) // on the kept log, as every renewal
			if tt.shown != nil {
				h.learnsPCR11(t, p, res)
			}
		})
	}
}

// learnsPCR11 has the broker judge the record again, userspace log included, and
// takes a reference set for PCR 11 from it.
func (h *host) learnsPCR11(t *testing.T, p *replica, res agent.Result) {
	t.Helper()
	file := filepath.Join(h.dir, "ref.yaml")
	h.rig.run(t, []string{"ZONEBROKER_DIR=" + p.dir}, "zonebroker", "reference", "learn",
		"--node", res.Node, "--boot", res.AttestationID, "-o", file)
	text, err := os.ReadFile(file)
	must(t, err)
	if !strings.Contains(string(text), "\n  11:\n") || strings.Contains(string(text), "\n  15:") {
		t.Errorf("learnt:\n%s", text)
	}
}
