package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestVerifyShowsWhatDocumentsProved: whoever writes a zone or admits an owner reads
// the words for it here. Text of documents moves no cursor.
func TestVerifyShowsWhatDocumentsProved(t *testing.T) {
	at := time.Date(2026, 11, 20, 9, 0, 0, 0, time.FixedZone("", 3600))
	docs := []verifier.Document{
		{Anchored: true, Facts: document.Facts{
			Format: "ec2.iid", Class: "C", Launched: at, Machine: document.Machine{Kind: "ec2.instance", Name: "1/r/i-1"},
			Owners:    []document.Owner{{Kind: "aws.account", Value: "123456789012"}},
			Selectors: []document.Selector{{Name: "ec2.tag", Value: "a=\x1b[2J"}, {Name: "ec2.tag", Value: "b=c"}},
			Hazards:   []document.Hazard{{Code: reason.EC2Marketplace, Detail: "of somebody"}},
		}},
		{Facts: document.Facts{Format: "gce.identity", Class: "B", IssuedAt: at}},
	}
	var out bytes.Buffer
	if err := printDocuments(&out, docs); err != nil {
		t.Fatal(err)
	}
	want := `document ec2.iid
  class     C
  machine   ec2.instance 1/r/i-1
  launched  2026-11-20T08:00:00Z
  owner     aws.account=123456789012
  hazard    ec2.marketplace: of somebody
  ec2.tag   a=[2J
  ec2.tag   b=c
document gce.identity
  class         B
  issued        2026-11-20T08:00:00Z
  same machine  not proved
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}
