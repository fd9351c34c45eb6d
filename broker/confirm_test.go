package broker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/broker/policy"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/ec2"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// zoneConfirmed is zoneEC2 closed where EC2 does not answer, zoneCompared the same by
// what only EC2 can say.
var (
	zoneConfirmed = strings.Replace(zoneEC2, "format: [ec2.iid]}", "format: [ec2.iid], confirmed: [ec2.iid]}", 1)
	zoneCompared  = strings.Replace(zoneEC2, "format: [ec2.iid]}", "format: [ec2.iid], where: {ec2.state: [running]}}", 1)
)

// amazon answers about the instances of cloudRig, in a state, or not at all.
type amazon struct{ state string }

func (*amazon) Name() string    { return "amazon" }
func (*amazon) Format() string  { return verifier.FormatEC2IID }
func (*amazon) Essential() bool { return false }

func (a *amazon) Enrich(_ context.Context, item verifier.Item, _ [32]byte) (map[string][]byte, error) {
	if a.state == "" {
		return nil, errors.New("no answer in time")
	}
	named, err := ec2.ReadClaimed(item.Document)
	if err != nil {
		return nil, err
	}
	i := documenttest.NewEC2Instance(named.Region, evidencetest.Noon)
	part, err := json.Marshal(map[string]any{
		"account_id": named.Account, "image_id": i.Image, "instance_id": named.Instance, "launch_time": i.Pending.UTC().Format(time.RFC3339),
		"region": named.Region, "state": a.state, "tags": map[string]string{},
	})
	return map[string][]byte{ec2.PartInstance: part}, err
}

// TestWhenNobodyAnswers is the table of docs/enrich.md: what a zone makes of a
// platform's answer and of its silence, recorded and judged again by a replica that
// asks nobody.
func TestWhenNobodyAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		zone       string
		configured bool
		state      string // "" is silence
		want       reason.Code
	}{
		"open, answered":            {zoneEC2, true, "running", ""},
		"open, silent":              {zoneEC2, true, "", ""},
		"open, stopped":             {zoneEC2, true, "stopped", reason.EC2InstanceState},
		"confirmed, answered":       {zoneConfirmed, true, "running", ""},
		"confirmed, silent":         {zoneConfirmed, true, "", reason.PolicyEvidenceMissing},
		"confirmed, stopped":        {zoneConfirmed, true, "stopped", reason.EC2InstanceState},
		"compared, answered":        {zoneCompared, true, "running", ""},
		"compared, silent":          {zoneCompared, true, "", reason.PolicyMeasurementMismatch},
		"compared, stopped":         {zoneCompared, true, "stopped", reason.EC2InstanceState},
		"open, not configured":      {zoneEC2, false, "", ""},
		"compared, not configured":  {zoneCompared, false, "", reason.PolicyMeasurementMismatch},
		"confirmed, not configured": {zoneConfirmed, false, "", reason.PolicyEvidenceMissing},
	} {
		t.Run(name+" (test PKI)", func(t *testing.T) {
			at := &amazon{state: "running"}
			var asked []broker.Enricher
			if c.configured {
				asked = append(asked, at)
			}
			r, pki := cloudRig(t, []string{zoneEC2}, asked...)
			h := r.instance(pki, 1)
			node := h.enrol().Node
			at.state = c.state
			r.activate(c.zone)
			if _, err := h.tryRenew(); reason.Of(err) != c.want {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			r.judgesTheSame(c.zone, r.lastAttestation(node), c.want)
		})
	}
}

// judgesTheSame has a replica without any enricher judge a record and decide anew.
func (r *rig) judgesTheSame(zone string, body ledger.Attestation, want reason.Code) {
	r.t.Helper()
	r.cfg.Enrichers = nil
	auditor, _ := r.newReplica("auditor")
	j, err := auditor.JudgeAgain(r.t.Context(), body)
	r.must(err)
	if !j.Same {
		r.t.Error("the appraisal differs from the recorded one")
	}
	d := loadSet(r.t, zone).Decide(policy.Input{
		Appraisal: j.Appraisal, Node: policy.Node{ID: strings.Repeat("a", 26), AdmittedBy: "owner", AKApproved: true},
		Now: time.UnixMilli(body.JudgedAt), AttestedAt: time.UnixMilli(body.IssuedAt),
	})
	if d.Allow != (want == "") || !d.Allow && d.Reasons[0].Code != want || d.Allow != (body.Verdict == ledger.VerdictAllow) {
		r.t.Errorf("decided again: allow %v, %v; the record says %s", d.Allow, d.Reasons, body.Verdict)
	}
}

// TestExplainUnconfirmed: who asks why hears that the platform was silent, about
// which document, and where that stands.
func TestExplainUnconfirmed(t *testing.T) {
	at := &amazon{state: "running"}
	r, pki := cloudRig(t, []string{zoneConfirmed}, at)
	h := r.instance(pki, 1)
	node := h.enrol().Node
	at.state = ""
	_, err := h.tryRenew()
	if reason.Of(err) != reason.PolicyEvidenceMissing {
		t.Fatal(err)
	}
	x, err := r.b.Explain(t.Context(), operator, r.lastAttestation(node).ID.String())
	r.must(err)
	if x.Code != "policy.evidence_missing" || len(x.Reasons) != 1 || !strings.Contains(x.Remedy, "`enrich`") ||
		!strings.Contains(x.Reasons[0].Detail, "ec2.iid confirmed by its platform (requires.confirmed)") {
		t.Errorf("%+v", x)
	}
}

// TestOwnLimitsDenyNobody: a question that this broker may not ask is not the
// host's fault. It comes again, unless something else is wrong with it.
func TestOwnLimitsDenyNobody(t *testing.T) {
	at := &amazon{state: "running"}
	r, pki := cloudRig(t, []string{zoneConfirmed}, at)
	for n := range broker.EnrichRate {
		r.instance(pki, n+1).enrol()
	}
	late := r.instance(pki, 100)
	if _, err := late.tryEnrol(); reason.Of(err) != reason.RequestOverloaded {
		t.Errorf("above the rate: %v", err)
	}
	r.activate(strings.Replace(zoneConfirmed, "admit: [owner]", "admit: [operator]", 1))
	if _, err := late.tryEnrol(); reason.Of(err) != reason.NodeNotAdmitted {
		t.Errorf("above the rate, and not admitted: %v", err)
	}
	r.activate(zoneEC2)
	if _, err := late.tryEnrol(); err != nil {
		t.Errorf("where the zone does not ask for it: %v", err)
	}
	r.activate(zoneConfirmed)
	r.wait(time.Second)
	if _, err := r.instance(pki, 101).tryEnrol(); err != nil {
		t.Errorf("a second later: %v", err)
	}
	at.state = ""
	if _, err := r.instance(pki, 102).tryEnrol(); reason.Of(err) != reason.PolicyEvidenceMissing {
		t.Errorf("asked, and not answered: %v", err)
	}
}

// TestUnconfirmableZoneIsToldAtOnce: an operator who forgot the enricher hears of it
// before a host is denied.
func TestUnconfirmableZoneIsToldAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		zone  string
		asked []broker.Enricher
		told  bool
	}{
		"configured":     {zoneConfirmed, []broker.Enricher{&amazon{}}, false},
		"not configured": {zoneConfirmed, nil, true},
		"not wanted":     {zoneEC2, nil, false},
	} {
		r := newRig(t)
		var lines bytes.Buffer
		r.cfg.Enrichers, r.cfg.Logger = c.asked, slog.New(slog.NewTextHandler(&lines, nil))
		r.b, _ = r.newReplica("b")
		r.must(r.b.Start(t.Context()))
		r.activate(c.zone)
		if told := strings.Contains(lines.String(), "format=ec2.iid"); told != c.told {
			t.Errorf("%s: %s", name, lines.String())
		}
	}
}
