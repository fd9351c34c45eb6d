package broker_test

import (
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	eventlog "github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/ima"
	"github.com/zonebroker/zonebroker/verifier/ima/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

const (
	zoneFiles = zoneLab + "requires: {ima: {files: [base]}}\n"
	setBase   = "apiVersion: zonebroker/v1\nkind: FileSet\nname: base\npaths: ['/usr/bin/[a-z]+']\n"
)

// measuring is a host whose kernel measures files.
type measuring struct {
	*host
	list *build.List
}

// newMeasuring makes an admitted host with a boot behind it.
func (r *rig) newMeasuring() *measuring {
	m := &measuring{host: r.admitted(), list: build.New()}
	m.boot()
	return m
}

// boot begins a new list with the boot aggregate.
func (m *measuring) boot() {
	m.tpm.Boot(eventlog.Machine{}.Log())
	pcrs := map[int][]byte{}
	for i := range 10 {
		pcrs[i] = m.tpm.PCRs[i][:]
	}
	m.list = build.New()
	m.measure(build.Aggregate(pcrs))
}

// measure adds entries to the list and extends PCR 10.
func (m *measuring) measure(entries ...build.Entry) {
	for _, with := range build.New(entries...).Extends() {
		m.tpm.Extend(10, with)
	}
	m.list = build.New(append(m.list.Entries(), entries...)...)
}

func (m *measuring) file(name string) { m.measure(build.File("/usr/bin/"+name, []byte(name))) }

// evidence answers a challenge with the list from an entry on.
func (m *measuring) evidence(ch api.Challenge, from int) api.AttestRequest {
	m.r.t.Helper()
	req := m.answer(ch)
	req.TPM2.IMALog = build.New(m.list.Entries()[from:]...).Bytes()
	req.TPM2.IMAOffset = int64(from)
	m.r.must(req.Validate())
	return req
}

func (m *measuring) tryEnrolFiles() (api.AttestResponse, error) {
	m.r.t.Helper()
	ch, err := m.askEnrol()
	m.r.must(err)
	if ch.IMA == nil || ch.IMA.Entries != 0 {
		m.r.t.Errorf("the challenge of an enrolment knows %+v", ch.IMA)
	}
	return m.attest(m.evidence(ch, 0))
}

func (m *measuring) enrolFiles() {
	m.r.t.Helper()
	out, err := m.tryEnrolFiles()
	m.r.must(err)
	m.prev = out.AttestationID
}

// known asks for a challenge a minute later and checks how much is known.
func (m *measuring) known(want int64) api.Challenge {
	m.r.t.Helper()
	m.minute()
	ch, err := m.askRenew()
	m.r.must(err)
	if ch.IMA == nil || ch.IMA.Entries != want {
		m.r.t.Errorf("the challenge knows %+v entries, want %d", ch.IMA, want)
	}
	return ch
}

// renewFrom sends the list from an entry on.
func (m *measuring) renewFrom(known int64, from int) error {
	m.r.t.Helper()
	out, err := m.attest(m.evidence(m.known(known), from))
	if err == nil {
		m.prev = out.AttestationID
	}
	return err
}

// TestFilesThroughTheBroker: a boot, what is new, nothing new, a reboot.
func TestFilesThroughTheBroker(t *testing.T) {
	r := newRig(t, zoneFiles, setBase)
	m := r.newMeasuring()
	m.file("sh")
	m.enrolFiles()
	if body := r.lastAttestation(m.node); body.Select != "ff0700" || body.IMAFirst != "" || body.Baseline != nil {
		t.Errorf("recorded: select %s, first %q", body.Select, body.IMAFirst)
	}
	m.file("ls")
	m.withoutLog = true // the firmware's log explains the rest, and PCR 10 moved
	r.must(m.renewFrom(2, 2))
	body := r.lastAttestation(m.node)
	if body.IMAFirst != "2" || body.Baseline.IMA == "" || len(body.Drift) != 0 {
		t.Errorf("recorded: first %q, baseline %q, drift %v", body.IMAFirst, body.Baseline.IMA, body.Drift)
	}
	r.must(m.renewFrom(3, 3))
	r.must(m.renewFrom(3, 0)) // all of it again is always good

	m.withoutLog = false
	m.boot()
	m.file("ls")
	mustRefuse(t, m.renewFrom(3, 3-1), reason.IMAOffset) // goes on from the boot before
	r.must(m.renewFrom(3, 0))
	r.must(m.renewFrom(2, 2))
	everyRecordAgain(t, r, m.node)
}

func mustRefuse(t *testing.T, err error, want reason.Code) {
	t.Helper()
	if reason.Of(err) != want {
		t.Fatalf("%v, want %s", err, want)
	}
}

// everyRecordAgain judges all records of a node by a replica that has nothing but
// the history.
func everyRecordAgain(t *testing.T, r *rig, node string) {
	t.Helper()
	auditor, _ := r.newReplica("auditor")
	for i, body := range r.attestations(node) {
		if j, err := auditor.JudgeAgain(t.Context(), body); err != nil || !j.Same {
			t.Errorf("record %d (%s): same %t, %v", i, body.Verdict, j.Same, err)
		}
	}
}

// TestDeniedFileStaysDenied until the next boot: it ran, whatever is measured
// afterwards.
func TestDeniedFileStaysDenied(t *testing.T) {
	r := newRig(t, zoneFiles, setBase)
	m := r.newMeasuring()
	m.enrolFiles()
	m.measure(build.File("/tmp/evil", []byte("evil")))
	mustRefuse(t, m.renewFrom(1, 1), reason.IMADenied)
	if why := r.lastAttestation(m.node).Reasons[0].Detail; !strings.Contains(why, "entry 1: /tmp/evil (sha256:") {
		t.Errorf("the refusal does not name the file: %s", why)
	}
	m.file("ls")
	mustRefuse(t, m.renewFrom(1, 1), reason.IMADenied)
	mustRefuse(t, m.renewFrom(1, 0), reason.IMADenied)
	mustRefuse(t, m.renewFrom(1, 2), reason.IMAOffset) // leaving the file out
	m.boot()
	r.must(m.renewFrom(1, 0))
	everyRecordAgain(t, r, m.node)
}

// TestFilesRefused: each way of hiding something, through the whole pipeline.
func TestFilesRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		measure func(m *measuring)
		forge   func(e *api.TPM2Evidence)
		want    reason.Code
	}{
		"nothing_sent":    {nil, func(e *api.TPM2Evidence) { e.IMALog = nil }, reason.IMAMissing},
		"last_entry_less": {nil, func(e *api.TPM2Evidence) { e.IMALog = shorter(e.IMALog) }, reason.IMATruncated},
		"cut":             {nil, func(e *api.TPM2Evidence) { e.IMALog = e.IMALog[:len(e.IMALog)-1] }, reason.IMATruncated},
		"ascii":           {nil, func(e *api.TPM2Evidence) { e.IMALog = []byte(strings.Repeat("10 0000 ima-ng\n", 9)) }, reason.IMAEncoding},
		"digest":          {nil, func(e *api.TPM2Evidence) { e.IMALog[4] ^= 1 }, reason.IMADigest},
		"other_pcr":       {nil, func(e *api.TPM2Evidence) { e.IMALog[0] = 11 }, reason.IMAPCR},
		"violation":       {func(m *measuring) { m.measure(build.Violation("/usr/bin/sh")) }, nil, reason.IMAViolation},
		"template":        {func(m *measuring) { m.measure(build.Measured("d-ng|n-ng", []byte("x"))) }, nil, reason.IMATemplateUnknown},
		"extended_beside": {func(m *measuring) { m.tpm.Extend(10, [32]byte{1}) }, nil, reason.IMATruncated},
		"other_boot":      {func(m *measuring) { m.tpm.Extend(9, [32]byte{1}) }, nil, reason.IMABootAggregate},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, zoneFiles, setBase)
			m := r.newMeasuring()
			m.file("sh")
			if tc.measure != nil {
				tc.measure(m)
			}
			ch, err := m.askEnrol()
			r.must(err)
			req := m.evidence(ch, 0)
			if tc.forge != nil {
				tc.forge(req.TPM2)
			}
			out, err := m.attest(req)
			wantCode(t, out, err, tc.want)
			everyRecordAgain(t, r, m.node)
		})
	}
}

// shorter returns the list without its last entry.
func shorter(raw []byte) []byte {
	list, err := ima.Parse(raw)
	if err != nil {
		panic(err)
	}
	rest, _ := ima.Skip(raw, uint64(list.Len()-1))
	return raw[:len(raw)-len(rest)]
}

// TestListGrewAfterTheQuote: what the quote does not cover waits for the next
// one.
func TestListGrewAfterTheQuote(t *testing.T) {
	r := newRig(t, zoneFiles, setBase)
	m := r.newMeasuring()
	ch, err := m.askEnrol()
	r.must(err)
	req := m.evidence(ch, 0)
	m.measure(build.File("/tmp/evil", nil))
	req.TPM2.IMALog = m.list.Bytes()
	out, err := m.attest(req)
	r.must(err)
	m.prev = out.AttestationID
	mustRefuse(t, m.renewFrom(1, 1), reason.IMADenied)
}

// TestFileRulesChangeAsksForAll: the challenge says so before anybody is denied.
func TestFileRulesChangeAsksForAll(t *testing.T) {
	r := newRig(t, zoneFiles, setBase)
	m := r.newMeasuring()
	m.file("sh")
	m.enrolFiles()
	r.activate(zoneFiles, strings.Replace(setBase, "[a-z]+", "[a-r]+", 1))
	mustRefuse(t, m.renewFrom(0, 2), reason.IMAOffset)
	mustRefuse(t, m.renewFrom(0, 0), reason.IMADenied)
	r.activate(zoneFiles, setBase)
	r.must(m.renewFrom(2, 2))
	// A zone that judges no files asks for no list, and keeps none.
	r.activate()
	m.minute()
	ch, err := m.askRenew()
	r.must(err)
	if ch.IMA != nil || ch.Select == "ff0700" {
		t.Errorf("%+v, %s", ch.IMA, ch.Select)
	}
	req := m.evidence(ch, 0)
	out, err := m.attest(req)
	r.must(err)
	m.prev = out.AttestationID
	if m.state().IMA != nil {
		t.Error("a state of a list that nobody asked for")
	}
	for _, part := range r.lastAttestation(m.node).Evidence {
		if part.Kind == ledger.PartIMALog {
			t.Error("a list that nobody asked for stands in the history")
		}
	}
}

// TestApprovalForgetsTheList: after an approval the next list is taken from its
// start.
func TestApprovalForgetsTheList(t *testing.T) {
	r := newRig(t, zoneFiles, setBase)
	m := r.newMeasuring()
	m.enrolFiles()
	if _, err := r.b.Approve(t.Context(), operator, m.node, api.ApproveRequest{Note: "x"}); err != nil {
		t.Fatal(err)
	}
	r.must(m.renewFrom(0, 0))
}

// TestBrokenIMAState: a state that is not in its form is none to go on from, and
// nothing is judged by a guess.
func TestBrokenIMAState(t *testing.T) {
	r := newRig(t, zoneFiles, setBase)
	m := r.newMeasuring()
	m.enrolFiles()
	node := r.store.nodes[ledger.NodeID(m.node)]
	node.State.IMA = []byte("{}")
	r.store.nodes[ledger.NodeID(m.node)] = node
	mustRefuse(t, m.renewFrom(0, 0), reason.Internal)
}
