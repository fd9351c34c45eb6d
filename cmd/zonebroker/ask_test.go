package main

import (
	"bytes"
	"context"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/server"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

const testSerial = "4a0b0c0d0e0f00010203040506070809"

var (
	testTime = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	testAsOf = api.AsOf{Log: "main", Size: 41, RecordedAt: testTime, Replica: true}
)

// Members are m0 to m599, after the cursor; their labels begin as a formula.
func (desk) Members(_ context.Context, _ server.Caller, q api.MembersQuery) (api.MemberPage, error) {
	if q.Zone == "empty" {
		return api.MemberPage{Members: []api.Member{}, AsOf: testAsOf}, nil
	}
	if q.At.IsZero() {
		q.At = testTime
	}
	p := api.MemberPage{At: q.At, AsOf: testAsOf}
	first := 0
	if q.Cursor != "" {
		first = int(q.Cursor[0]-'a')*26 + int(q.Cursor[1]-'a') + 1
	}
	for i := first; i < 600 && len(p.Members) < q.Limit; i++ {
		id := string(rune('a'+i/26)) + string(rune('a'+i%26)) + strings.Repeat("a", 24)
		p.Members = append(p.Members, api.Member{
			Node: id, Machine: "=cmd|m" + strconv.Itoa(i), Zone: q.Zone, From: testTime, PolicyVersion: 3, Measured: testHash, Last: testRecord,
		})
		p.NextCursor = id
	}
	return p, nil
}

func (d desk) NodeAt(_ context.Context, _ server.Caller, q api.NodeAtQuery) (api.NodeAt, error) {
	_, err := d.node(q.Node)
	return api.NodeAt{
		Node: q.Node, At: testTime, Zone: "payments", ValidSVID: true, Denied: true, AsOf: testAsOf,
		Interval: &api.Interval{Node: q.Node, Zone: "payments", From: testTime, Measured: testHash},
		Record:   &api.Entry{ID: testRecord, Verdict: "deny", Reason: "policy.pcr_mismatch"},
	}, err
}

func (d desk) Intervals(_ context.Context, _ server.Caller, q api.IntervalsQuery) (api.IntervalPage, error) {
	_, err := d.node(q.Node)
	return api.IntervalPage{Node: q.Node, Since: testTime, AsOf: testAsOf, Intervals: []api.Interval{
		{Node: q.Node, Zone: "payments", From: testTime, Until: testTime.Add(time.Hour), Measured: testHash, Ended: "denied", First: testRecord, Last: testRecord},
	}}, err
}

func (desk) Unseen(_ context.Context, _ server.Caller, q api.UnseenQuery) (api.UnseenPage, error) {
	if q.Since.After(time.Now()) {
		return api.UnseenPage{}, reason.New(reason.RequestMalformed, "since: lies in the future")
	}
	return api.UnseenPage{Since: q.Since, AsOf: testAsOf, Nodes: []api.Unseen{{Node: testNode, Machine: "m", Zone: q.Zone, Status: "active", Reason: "silent " + strconv.FormatBool(q.Silent)}}}, nil
}

func (desk) Population(_ context.Context, _ server.Caller, q api.PopulationQuery) (api.PopulationPage, error) {
	return api.PopulationPage{Fact: q.Fact, AsOf: testAsOf, Values: []api.Population{
		{Value: testHash, Nodes: 41, Some: []string{testNode}}, {Value: "", Nodes: 1, Some: []string{}},
	}}, nil
}

func (desk) SVIDs(_ context.Context, _ server.Caller, q api.SVIDQuery) (api.SVIDPage, error) {
	return api.SVIDPage{Since: testTime, AsOf: testAsOf, SVIDs: []api.SVID{{
		Serial: testSerial, Profile: "x509", Node: testNode, Zone: q.Zone, Key: "tpm", RecordedAt: testTime, PolicyVersion: q.Policy, Record: testRecord,
		Audience: strconv.FormatBool(q.DeniedNow),
	}}}, nil
}

func (desk) FindSVID(_ context.Context, _ server.Caller, serial string) (api.SVIDTrail, error) {
	if serial != testSerial {
		return api.SVIDTrail{}, reason.New(reason.RequestNotFound, "no kept record names an SVID of that serial")
	}
	return api.SVIDTrail{
		SVID:     api.SVID{Serial: serial, Profile: "x509", Key: "tpm", Node: testNode, Zone: "payments", SPIFFEID: "spiffe://t/zone/payments/node/n", Record: testRecord},
		Decision: &api.Entry{ID: testRecord, Verdict: "allow", RecordedAt: testTime}, AsOf: testAsOf,
		Evidence: []api.EvidencePart{{Kind: "tpm2.quote", SHA256: testHash}},
	}, nil
}

// TestHarmless: no cell is a formula, whatever a host calls itself, and what is
// none stays as it is.
func TestHarmless(t *testing.T) {
	for in, want := range map[string]string{
		"=1+1": "'=1+1", "+1": "'+1", "-1": "'-1", "@SUM(A1)": "'@SUM(A1)", " =1": "' =1", "\t=1": "' =1", "\r\n=1": "' =1",
		"＝1": "'＝1", "": "", "a=b": "a=b", "rack-7": "rack-7", "a\x1b[2Jb": "a[2Jb", "0x41": "0x41", "ü, \"q\"": "ü, \"q\"",
		"\x1b=1": "'=1",
	} {
		if got := harmless(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}

// TestCSV: a header whatever there is, CRLF, quotes where RFC 4180 wants them, a
// column for each member that lists have.
func TestCSV(t *testing.T) {
	entries := []api.Entry{{Index: 7, ID: "x", Reason: `a,"b"`, Drift: []api.DriftChange{{Kind: "pcr.4", Before: "=", After: "b"}}, Body: json.RawMessage("{}")}, {RecordedAt: testTime}}
	for _, tt := range []struct {
		items []api.Entry
		want  string
	}{
		{nil, "log,index,id,type,recorded_at,node,zone,verdict,reason,drift\r\n"},
		{entries, "log,index,id,type,recorded_at,node,zone,verdict,reason,drift\r\n" +
			",7,x,,,,,,\"a,\"\"b\"\"\",\"[{\"\"kind\"\":\"\"pcr.4\"\",\"\"before\"\":\"\"=\"\",\"\"after\"\":\"\"b\"\"}]\"\r\n" +
			",0,,,2026-11-20T12:00:00Z,,,,,[]\r\n"},
	} {
		var b bytes.Buffer
		if err := printList(&b, asCSV, tt.items, "", nil); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, b.String()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	for _, v := range []any{api.Member{}, api.Interval{}, api.Unseen{}, api.SVID{}, api.Node{}, api.Drift{}, api.TimelineEntry{}, api.Operator{}} {
		typ := reflect.TypeOf(v)
		if header, cells := csvHeader(typ), csvCells(reflect.ValueOf(v)); len(header) != len(cells) || len(header) != typ.NumField() {
			t.Errorf("%s has %d members, %d names and %d cells", typ, typ.NumField(), len(header), len(cells))
		}
	}
}
