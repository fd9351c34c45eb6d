package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/server"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func (desk) ExportEvidence(_ context.Context, _ server.Caller, id string) (api.EvidenceFile, error) {
	if id != testRecord {
		return api.EvidenceFile{}, reason.New(reason.RequestNotFound, "that record is no attestation")
	}
	return api.EvidenceFile{
		Version: api.EvidenceFileVersion, Format: api.FormatTPM2,
		Evidence: api.EvidenceMembers{TPM2: &api.TPM2Evidence{AKPublic: api.Bytes{1}, Quote: api.Bytes{2}, Signature: api.Bytes{3}, PCRs: map[string]api.Bytes{}}},
		Context:  api.EvidenceContext{Time: time.Unix(1_800_000_000, 0).UTC(), Qualifying: api.Bytes("nonce"), Select: "ff0000"},
		Recorded: &api.RecordedVerdict{ID: id, Verdict: "deny", Reasons: []api.Reason{{Code: "tpm2.ak.encoding"}}},
	}, nil
}

func (desk) Explain(_ context.Context, _ server.Caller, id string) (api.Explanation, error) {
	if id != testRecord {
		return api.Explanation{}, reason.New(reason.RequestNotFound, "that record is no denial")
	}
	return api.Explanation{
		ID: id, RecordedAt: time.Now(), Node: testNode, Zone: "payments", Code: "policy.pcr_mismatch", Remedy: "Learn it.",
		Reasons: []api.Reason{{Code: "policy.pcr_mismatch", Detail: "PCR 4 is \x1b[31mred"}},
		Mismatches: []api.Mismatch{
			{PCR: 4, Set: "golden", Kind: api.MismatchValue, Expected: []string{"aa"}, Seen: "bb", Event: &api.EventDifference{
				Number: 63, Type: "EV_EFI_BOOT_SERVICES_APPLICATION", Description: "/boot/vmlinuz-6.12.1", Digest: "cc",
				Before: "dd", BeforeDescription: "/boot/vmlinuz-6.1", Against: testRecord,
			}},
			{PCR: 8, Set: "golden", Kind: api.MismatchValue, Expected: []string{"aa"}, Seen: "bb"},
			{PCR: 9, Set: "golden", Kind: api.MismatchEvents, Expected: []string{"ab", "ac"}, Seen: "bb", Event: &api.EventDifference{Before: "ab", BeforeDescription: "/boot/initrd"}},
		},
	}, nil
}

func (desk) Drift(_ context.Context, _ server.Caller, q api.DriftQuery) (api.DriftPage, error) {
	if q.Zone == "empty" {
		return api.DriftPage{Changes: []api.Drift{}}, nil
	}
	top := 600
	if q.Cursor != "" {
		top, _ = strconv.Atoi(q.Cursor)
	}
	var p api.DriftPage
	for i := top - 1; i >= 0 && len(p.Changes) < q.Limit; i-- {
		p.Changes = append(p.Changes, api.Drift{
			Index: int64(i), ID: testRecord, RecordedAt: time.Now(), Node: testNode, Zone: q.Zone, Kind: q.Kind, Before: testHash, After: "x" + strconv.Itoa(i),
		})
		p.NextCursor = strconv.Itoa(i)
	}
	return p, nil
}

func (desk) Timeline(_ context.Context, _ server.Caller, q api.TimelineQuery) (api.TimelinePage, error) {
	if strings.Trim(q.Node, "a") == "" {
		return api.TimelinePage{}, reason.New(reason.RequestNotFound, "no such node")
	}
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	end := at.Add(time.Hour)
	all := []api.TimelineEntry{
		{Type: "node.approved", By: "operator:alice", Note: "board \x1b[31mreplaced"},
		{Type: "attestation", Verdict: "allow", Zone: "payments", Tier: 2, SVIDs: []api.TimelineSVID{{Profile: "x509", SPIFFEID: "spiffe://t/zone/payments/node/n", ExpiresAt: end}}},
		{Type: "svid.issued", Zone: "payments", SVIDs: []api.TimelineSVID{{Profile: "jwt", SPIFFEID: "spiffe://t/zone/payments/workload/w", Audience: "db", ExpiresAt: end}}},
		{
			Type: "attestation", Verdict: "deny", Zone: "payments", Events: []string{"tpm2.rebooted"},
			Drift:   []api.DriftChange{{Kind: "pcr.4", Before: testHash, After: strings.Repeat("ab", 32)}, {Kind: "reason", After: "policy.pcr_mismatch"}},
			Reasons: []api.Reason{{Code: "policy.pcr_mismatch", Detail: "PCR 4 differs"}, {Code: "policy.secure_boot"}},
		},
	}
	page := api.TimelinePage{Node: q.Node}
	for i, e := range all {
		e.Index, e.ID, e.RecordedAt = int64(i+1), testRecord, at.Add(time.Duration(i)*time.Minute)
		if q.Cursor == "" || strconv.FormatInt(e.Index, 10) < q.Cursor {
			page.Entries = append(page.Entries, e)
		}
	}
	// A page holds two at most, however many are asked for.
	if n := min(2, q.Limit); len(page.Entries) > n {
		page.Entries = page.Entries[len(page.Entries)-n:]
		page.NextCursor = strconv.FormatInt(page.Entries[0].Index, 10)
	}
	return page, nil
}
