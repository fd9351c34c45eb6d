package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// demoEvent is any event of the demo; members that a type does not have are
// zero. Their presence and form are the schema's matter.
type demoEvent struct {
	Type      string `json:"type"`
	ElapsedMS int64  `json:"elapsed_ms"`
	Host      string
	Node      string
	Zone      string
	Kernel    string
	Text      string
	Code      string
	Event     int
	PCR       int
	Expected  []string
	Seen      string
	Record    string
	Kind      string
	Before    string
	After     string
	OK        bool
	Error     string
	Records   int64
	Dir       string
	Server    string
	Nodes     []struct{ Host, Node, Zone string }
	Latency   struct {
		Count int
		P50MS int64 `json:"p50_ms"`
		P99MS int64 `json:"p99_ms"`
	}
}

func demoSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	s, err := c.Compile("../docs/schemas/zonebroker-demo.json")
	must(t, err)
	return s
}

func parseEvents(t *testing.T, out string) []demoEvent {
	t.Helper()
	schema := demoSchema(t)
	var events []demoEvent
	for line := range strings.Lines(out) {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
		if err == nil {
			err = schema.Validate(v)
		}
		if err != nil {
			t.Fatalf("%s\n%v", line, err)
		}
		// Otherwise the schema would prove nothing: neither a member more nor one
		// without value is of it.
		for _, name := range slices.Collect(maps.Keys(v.(map[string]any))) {
			forged := maps.Clone(v.(map[string]any))
			forged[name] = nil
			if schema.Validate(forged) == nil {
				t.Errorf("the schema takes null for %s of %s", name, line)
			}
			delete(forged, name)
			forged["forged"] = true
			if schema.Validate(forged) == nil {
				t.Errorf("the schema takes a member that it does not name in %s", line)
			}
		}
		var e demoEvent
		must(t, json.Unmarshal([]byte(line), &e))
		events = append(events, e)
	}
	return events
}

func ofType(events []demoEvent, typ string) []demoEvent {
	return slices.DeleteFunc(slices.Clone(events), func(e demoEvent) bool { return e.Type != typ })
}

// TestDemoEvents: each event is of its schema, and they tell the story: 14 hosts
// over three zones, one of them refused for what it booted.
func TestDemoEvents(t *testing.T) {
	d := newDemo(t, "--once", "--json", "--hosts", "14")
	if code := d.exit(); code != 0 || d.notes.Len() > 0 {
		t.Fatalf("exit %d\n%s\n%s", code, d.notes, d.text())
	}
	events := parseEvents(t, d.text())
	for typ, want := range map[string]int{"node": 14, "svid": 14, "denied": 1, "history": 1, "ready": 1, "end": 1} {
		if got := len(ofType(events, typ)); got != want {
			t.Errorf("%d events %s, want %d", got, typ, want)
		}
	}
	zones, kernels := map[string]int{}, map[string]string{}
	for _, e := range ofType(events, "node") {
		zones[e.Zone]++
		kernels[e.Zone] = e.Kernel
	}
	if len(zones) != 3 || zones["payments"] != 5 || zones["batch"] != 5 || zones["lab"] != 4 {
		t.Errorf("zones %v", zones)
	}
	if kernels["payments"] == kernels["batch"] || kernels["batch"] == kernels["lab"] {
		t.Errorf("kernels %v", kernels)
	}
	denied := ofType(events, "denied")[0]
	if denied.Code != "policy.pcr_mismatch" || denied.PCR != 4 || denied.Event == 0 || slices.Contains(denied.Expected, denied.Seen) {
		t.Errorf("denied: %+v", denied)
	}
	drift := ofType(events, "drift")
	if !slices.ContainsFunc(drift, func(e demoEvent) bool {
		return e.Kind == "pcr.4" && e.Before == denied.Expected[0] && e.After == denied.Seen && e.Record == denied.Record && e.Node == denied.Node
	}) {
		t.Errorf("no drift of the PCR that was denied: %+v", drift)
	}
	if h := ofType(events, "history")[0]; !h.OK || h.Records < 2*14 {
		t.Errorf("history: %+v", h)
	}
	for _, n := range ofType(events, "ready")[0].Nodes {
		if (n.Zone == "") != (n.Node == denied.Node) {
			t.Errorf("at the end %+v", n)
		}
	}
	timing := ofType(events, "step")[slices.IndexFunc(ofType(events, "step"), func(e demoEvent) bool { return e.Latency.Count > 0 })].Latency
	if last := events[len(events)-1]; last.Type != "end" || !last.OK || timing.Count != 14 {
		t.Errorf("last event %+v, latency %+v", last, timing)
	} else {
		t.Logf("14 hosts in %d ms; first SVIDs p50 %d ms, p99 %d ms", last.ElapsedMS, timing.P50MS, timing.P99MS)
	}
}

// TestDemoReadyForPrograms: at ready the folder is there and the broker answers.
func TestDemoReadyForPrograms(t *testing.T) {
	d := newDemo(t, "--json", "--hosts", "3")
	d.until(`"ready"`)
	ready := ofType(parseEvents(t, d.text()), "ready")[0]
	if ready.Dir != d.dir() {
		t.Errorf("ready says %s, the folder is %s", ready.Dir, d.dir())
	}
	out := getRig(t).run(t, []string{"ZONEBROKER_DIR=" + ready.Dir}, "zonebroker", "node", "list", "-o", "json")
	for _, n := range ready.Nodes {
		if !strings.Contains(out, n.Node) {
			t.Errorf("%s (%s) is not in the broker's list", n.Host, n.Node)
		}
	}
	must(t, d.cmd.Process.Signal(os.Interrupt))
	if code := d.exit(); code != 0 {
		t.Errorf("exit %d\n%s", code, d.notes)
	}
	events := parseEvents(t, d.text())
	if last := events[len(events)-1]; last.Type != "end" || !last.OK {
		t.Errorf("last event %+v", last)
	}
}

// TestDemoOfOneHost: the only host is the one that is refused.
func TestDemoOfOneHost(t *testing.T) {
	d := startDemo(t, "--hosts", "1")
	for _, want := range []string{"1 host booted", "1 first SVID:", "host-01 denied: policy.pcr_mismatch", "history verified"} {
		if !strings.Contains(d.text(), want) {
			t.Errorf("the demo does not say %q:\n%s", want, d.text())
		}
	}
	if strings.Contains(d.text(), "zoneagent fetch") {
		t.Errorf("it offers to fetch what a refused host does not have:\n%s", d.text())
	}
	must(t, d.cmd.Process.Signal(os.Interrupt))
	if code := d.exit(); code != 0 {
		t.Errorf("exit %d\n%s", code, d.notes)
	}
}

// TestDemoKeep: the folder stays, and is named.
func TestDemoKeep(t *testing.T) {
	d := newDemo(t, "--once", "--keep", "--hosts", "1")
	if code := d.exit(); code != 0 {
		t.Fatalf("exit %d\n%s", code, d.notes)
	}
	if want := "kept: " + d.dir() + "\n"; d.dir() == "" || d.notes.String() != want {
		t.Errorf("notes %q, want %q", d.notes, want)
	}
	for _, name := range []string{"env", "broker.log", "zones/payments.yaml", "host-01/state/state.json", "log-anchor.note"} {
		if gone(filepath.Join(d.dir(), name)) {
			t.Errorf("%s was removed in spite of --keep", name)
		}
	}
	if left := processesOf(t, d.tmp); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}

// TestDemoThatCannotTellItsStory exits with 1, says why, and leaves nothing.
func TestDemoThatCannotTellItsStory(t *testing.T) {
	r := getRig(t)
	liar := filepath.Join(demoTmp(t), "liar") // programs that are there and do not work
	must(t, os.Mkdir(liar, 0o755))
	for _, name := range []string{"swtpm", "swtpm_setup", "swtpm_localca"} {
		must(t, os.WriteFile(filepath.Join(liar, name), []byte("#!/bin/sh\necho broken >&2\nexit 1\n"), 0o755))
	}
	for _, tt := range []struct{ name, env, says string }{
		{"a program is missing", "ZONEBROKER_SWTPM=/nonexistent", "swtpm"},
		{"a program does not work", "ZONEBROKER_SWTPM=" + liar, "swtpm"},
		{"no place for the folder", "TMPDIR=/nonexistent", "TMPDIR"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := &runningDemo{t: t, tmp: demoTmp(t)}
			out, notes, code := r.try(t, append(r.programs.Environ(), "TMPDIR="+d.tmp, tt.env), "zonebroker", "demo", "--once", "--json")
			if code != 1 || !strings.Contains(notes, tt.says) {
				t.Errorf("exit %d\n%s", code, notes)
			}
			events := parseEvents(t, out)
			if last := events[len(events)-1]; last.Type != "end" || last.OK || last.Error == "" {
				t.Errorf("last event %+v", last)
			}
			d.wantGone()
		})
	}
	if _, notes, code := r.try(t, nil, "zonebroker", "demo", "--hosts", "101"); code != 2 {
		t.Errorf("101 hosts: exit %d\n%s", code, notes)
	}
}

// TestDemoNextSteps runs every line that the demo offers, as they stand, in one
// shell.
func TestDemoNextSteps(t *testing.T) {
	r := getRig(t)
	d := startDemo(t)
	_, after, ok := strings.Cut(d.text(), "Try, in another terminal:\n")
	block, _, _ := strings.Cut(after, "Ctrl-C")
	if !ok || strings.Count(block, "\n") < 8 {
		t.Fatalf("it offers nothing:\n%s", d.text())
	}
	postgres := filepath.Dir(r.programs.Path("postgres"))
	for _, name := range []string{"zonebroker", "zoneagent", "psql"} {
		if !strings.Contains(block, "\n  "+name+" ") {
			t.Errorf("it offers nothing of %s", name)
		}
	}
	_, err := os.Stat(filepath.Join(postgres, "psql"))
	if errors.Is(err, os.ErrNotExist) {
		block = strings.ReplaceAll(block, "\n  psql ", "\n  : ")
	}
	sh := exec.Command("bash", "-eux")
	sh.Dir = "/"
	sh.Env = append(r.programs.Environ(), "PATH="+r.bin+":"+postgres+":"+os.Getenv("PATH"))
	sh.Stdin = strings.NewReader(fmt.Sprintf("%s\n", strings.ReplaceAll(block, "psql ", "psql -Atc 'SELECT count(*) FROM attestation' ")))
	var out, errOut bytes.Buffer
	sh.Stdout, sh.Stderr = &out, &errOut
	began := time.Now()
	if err := sh.Run(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out.String(), errOut.String())
	}
	for _, want := range []string{"host-12", "policy.pcr_mismatch", "pcr.4", "/zone/payments/workload/checkout", "in zone payments"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("nothing shows %q:\n%s", want, out.String())
		}
	}
	t.Logf("%d lines in %s", strings.Count(block, "\n"), time.Since(began).Round(time.Millisecond))
}
