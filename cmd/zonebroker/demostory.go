package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/client"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
)

// story tells what happens, and what it showed. An outcome that is not the
// expected one is an error: it would be a defect of the product.
func (d *demo) story(ctx context.Context) error {
	d.step("Postgres runs in %s, fsync on", filepath.Join(d.dir, embeddedName))
	d.step("broker answers on https://%s, trust domain %s", d.broker.address, demoDomain)
	d.hosts = demoFleet(d.dir, d.options.hosts)
	for _, chapter := range []func(context.Context) error{d.bootFleet, d.admitFleet, d.earnZones, d.otherBoot, d.prove} {
		if err := chapter(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) bootFleet(ctx context.Context) error {
	if err := d.parallel(ctx, "hosts boot", d.powerOn); err != nil {
		return err
	}
	extended := 0
	for _, h := range d.hosts {
		extended += len(h.boot.Extends())
	}
	d.step("%s booted, each with a software TPM of its own: %d events measured", count(len(d.hosts), "host"), extended)
	return nil
}

func (d *demo) admitFleet(ctx context.Context) error {
	if err := d.parallel(ctx, "hosts are admitted", d.admit); err != nil {
		return err
	}
	d.step("operator admitted %s, by the hashes of the EKs", count(len(d.hosts), "host"))
	return nil
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// earnZones has every host enrol, and shows which zone its boot earned.
func (d *demo) earnZones(ctx context.Context) error {
	var mu sync.Mutex // guards took
	var took []time.Duration
	var first agent.Result
	err := d.parallel(ctx, "hosts earn their zones", func(ctx context.Context, h *demoHost) error {
		began := time.Now()
		res, err := d.attest(ctx, h)
		if err != nil {
			return err
		}
		span := time.Since(began)
		if res.Zone != h.zone.name || res.Tier != h.zone.tier {
			return fmt.Errorf("%s earned zone %s of tier %d, not %s of tier %d; this is a defect", h.name, res.Zone, res.Tier, h.zone.name, h.zone.tier)
		}
		h.node = res.Node
		d.tellEarned(h, res, span)
		mu.Lock()
		defer mu.Unlock()
		took = append(took, span)
		if h == d.hosts[0] {
			first = res
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i := range demoZones {
		d.tellZone(&demoZones[i])
	}
	l := latencyOf(took)
	text := fmt.Sprintf("%s: p50 %d ms, p99 %d ms, from opening the TPM to the SVID", count(l.Count, "first SVID"), l.P50MS, l.P99MS)
	d.tell(&stepEvent{eventHead: eventHead{Type: eventStep}, Text: text, Latency: &l}, text,
		fmt.Sprintf("  %s: %s", d.hosts[0].name, first.SPIFFEID),
		fmt.Sprintf("  attested %s, fresh until %s, certificate ends %s", clock(first.AttestedAt), clock(first.FreshUntil), clock(first.ExpiresAt)))
	return nil
}

// tellEarned is for programs; people get a line a zone.
func (d *demo) tellEarned(h *demoHost, res agent.Result, took time.Duration) {
	d.tell(&nodeEvent{
		eventHead: eventHead{Type: eventNode}, Host: h.name, Node: res.Node, Zone: res.Zone, Tier: res.Tier, Kernel: h.zone.machine.KernelVersion,
	})
	d.tell(&svidEvent{
		eventHead: eventHead{Type: eventSVID}, Host: h.name, Node: res.Node, SPIFFEID: res.SPIFFEID, AttestationID: res.AttestationID,
		LogIndex: res.Log.Index, AttestedAt: res.AttestedAt.UTC(), FreshUntil: res.FreshUntil.UTC(), ExpiresAt: res.ExpiresAt.UTC(), TookMS: took.Milliseconds(),
	})
}

func (d *demo) tellZone(z *demoZone) {
	var names []string
	for _, h := range d.hosts {
		if h.zone == z {
			names = append(names, h.name)
		}
	}
	if len(names) == 0 {
		return
	}
	who := names[0]
	if n := len(names); n > 1 {
		who += " to " + names[n-1]
	}
	boot := "no reference set"
	if z.reference != "" {
		boot = "reference set " + z.reference
	}
	d.step("zone %-8s  tier %d  %-18s  kernel %s, %s", z.name, z.tier, who, z.machine.KernelVersion, boot)
}

// latencyOf takes the nearest ranks.
func latencyOf(took []time.Duration) latency {
	slices.Sort(took)
	rank := func(percent int) int64 {
		return took[max(0, (len(took)*percent+99)/100-1)].Milliseconds()
	}
	return latency{Count: len(took), P50MS: rank(50), P99MS: rank(99)}
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05Z") }

// otherBoot boots a kernel on one host that its zone's reference set does not
// know. The denial is part of the story; an acceptance would be a failure of the
// product.
func (d *demo) otherBoot(ctx context.Context) error {
	h := d.hosts[min(1, len(d.hosts)-1)]
	machine := h.zone.machine
	machine.KernelVersion = otherKernel
	if err := d.reboot(ctx, h, build.Machine(machine).Log()); err != nil {
		return fmt.Errorf("reboot %s: %w", h.name, err)
	}
	d.step("%s rebooted with kernel %s instead of %s", h.name, otherKernel, h.zone.machine.KernelVersion)
	_, err := d.attest(ctx, h)
	refused, ok := errors.AsType[*client.RefusedError](err)
	if !ok {
		return fmt.Errorf("%s with an unknown kernel was not refused: %w", h.name, errors.Join(err, errors.New("this is a defect")))
	}
	h.told = true
	var x api.Explanation
	err = patiently(ctx, func() error {
		x, err = d.explain(ctx, h)
		return err
	})
	if err != nil {
		return err
	}
	if x.Code != string(refused.Code) || len(x.Mismatches) == 0 || x.Mismatches[0].Event == nil {
		return fmt.Errorf("%s was denied with %s, which the history does not explain; this is a defect", h.name, refused.Code)
	}
	d.tellDenied(h, x)
	return d.drift(ctx, h, x.ID)
}

// explain asks the history why a host was denied last.
func (d *demo) explain(ctx context.Context, h *demoHost) (api.Explanation, error) {
	page, err := d.broker.broker.History(ctx, demoCaller, api.HistoryQuery{Node: h.node, Verdict: ledger.VerdictDeny, Limit: 1})
	if err != nil {
		return api.Explanation{}, err
	}
	if len(page.Entries) == 0 {
		return api.Explanation{}, fmt.Errorf("the denial of %s is not in the history; this is a defect", h.name)
	}
	return d.broker.broker.Explain(ctx, demoCaller, page.Entries[0].ID)
}

// tellDenied shows the first PCR that differs, with the event that made it
// differ, and names the others.
func (d *demo) tellDenied(h *demoHost, x api.Explanation) {
	m := x.Mismatches[0]
	lines := []string{
		fmt.Sprintf("%s denied: %s (record %s)", h.name, x.Code, x.ID),
		fmt.Sprintf("  event %d of its boot log, in PCR %d: %s", m.Event.Number, m.PCR, m.Event.Description),
		fmt.Sprintf("  PCR %d expected %s", m.PCR, strings.Join(m.Expected, " or ")),
		fmt.Sprintf("  PCR %d seen     %s", m.PCR, m.Seen),
	}
	var others []string
	for _, o := range x.Mismatches[1:] {
		also := fmt.Sprintf("PCR %d", o.PCR)
		if o.Event != nil {
			also += fmt.Sprintf(" from event %d on", o.Event.Number)
		}
		others = append(others, also)
	}
	if len(others) > 0 {
		lines = append(lines, "  also "+strings.Join(others, ", "))
	}
	lines = append(lines, "  remedy: "+x.Remedy)
	d.tell(&deniedEvent{
		eventHead: eventHead{Type: eventDenied}, Host: h.name, Node: h.node, Record: x.ID, Code: x.Code, Event: m.Event.Number,
		Description: m.Event.Description, PCR: m.PCR, Expected: m.Expected, Seen: m.Seen, Remedy: x.Remedy,
	}, lines...)
}

// drift shows what the denied boot changed on the node, by the record of it.
func (d *demo) drift(ctx context.Context, h *demoHost, record string) error {
	var page api.DriftPage
	err := patiently(ctx, func() (err error) {
		page, err = d.broker.broker.Drift(ctx, demoCaller, api.DriftQuery{Node: h.node})
		return err
	})
	if err != nil {
		return err
	}
	var rest []string
	line := ""
	for _, c := range page.Changes {
		if c.ID != record {
			continue
		}
		d.tell(&driftEvent{eventHead: eventHead{Type: eventDrift}, Host: h.name, Node: h.node, Record: c.ID, Kind: c.Kind, Before: c.Before, After: c.After})
		if line == "" {
			line = fmt.Sprintf("drift of %s: %s was %s, is %s", h.name, c.Kind, short(c.Before), short(c.After))
			continue
		}
		rest = append(rest, c.Kind)
	}
	if line == "" {
		return fmt.Errorf("%s has not drifted; this is a defect", h.name)
	}
	if len(rest) > 0 {
		line += "; with it " + strings.Join(rest, ", ")
	}
	d.step("%s", line)
	return nil
}

func (d *demo) prove(ctx context.Context) error {
	var v api.Verification
	err := patiently(ctx, func() (err error) {
		v, err = d.broker.broker.VerifyHistory(ctx, demoCaller)
		return err
	})
	if err != nil {
		return err
	}
	e := &historyEvent{eventHead: eventHead{Type: eventHistory}, OK: v.OK, Records: v.Records, Grants: v.Grants, Size: v.Size, Root: v.Root}
	if !v.OK {
		d.tell(e)
		return fmt.Errorf("the history is not whole:\n  %s", strings.Join(v.Problems, "\n  "))
	}
	d.tell(e, fmt.Sprintf("history verified: %d records, %d of them grants, root %s…, equal to the signed checkpoint", v.Records, v.Grants, v.Root[:16]))
	return nil
}

// ready says for programs what is there now.
func (d *demo) ready() *readyEvent {
	e := &readyEvent{
		eventHead: eventHead{Type: eventReady}, Dir: d.dir, Server: "https://" + d.broker.address, Database: d.broker.database, Nodes: []readyNode{},
	}
	for _, h := range d.hosts {
		n := readyNode{Host: h.name, Node: h.node}
		if !h.told {
			n.Zone, n.Tier = h.zone.name, h.zone.tier
		}
		e.Nodes = append(e.Nodes, n)
	}
	return e
}
