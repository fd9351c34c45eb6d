package document_test

import (
	"crypto/sha256"
	"slices"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestHashesAreOfTheirBytes: a machine's hash is part of the node's id, and an
// owner's is what an admission is found by: another form of either would make a
// stranger of every node, and names without their lengths would share one.
func TestHashesAreOfTheirBytes(t *testing.T) {
	for label, got := range map[string][32]byte{
		"zonebroker-machine-v1": document.Machine{Kind: "ec2.instance", Name: "a/b"}.Hash(),
		"zonebroker-owner-v1":   document.Owner{Kind: "ec2.instance", Value: "a/b"}.Hash(),
	} {
		if want := sha256.Sum256([]byte(label + "\x00\x00\x00\x0cec2.instance\x00\x00\x00\x03a/b")); got != want {
			t.Errorf("%s: %x, want %x", label, got, want)
		}
	}
}

// TestFactsKeepWhatIsSaid, in its order: the first hazard is the one that refuses.
func TestFactsKeepWhatIsSaid(t *testing.T) {
	var f document.Facts
	f.Own(document.OwnerAWSAccount, "123456789012")
	f.Own(document.OwnerGCPProject, "p")
	f.Pass("a", "first")
	f.Pass("b", "second")
	if f.Confirmed {
		t.Error("confirmed by nobody")
	}
	f.Confirm("c", "third")
	f.Fear(reason.SNPDebug, "first")
	f.Fear(reason.EC2Marketplace, "second")
	if !slices.Equal(f.Owners, []document.Owner{{Kind: document.OwnerAWSAccount, Value: "123456789012"}, {Kind: document.OwnerGCPProject, Value: "p"}}) {
		t.Errorf("owners %v", f.Owners)
	}
	if !slices.Equal(f.Hazards, []document.Hazard{{Code: reason.SNPDebug, Detail: "first"}, {Code: reason.EC2Marketplace, Detail: "second"}}) {
		t.Errorf("hazards %v", f.Hazards)
	}
	if len(f.Findings) != 3 || f.Findings[2].Check != "c" || !f.Confirmed || f.Findings[0].Check != "a" || f.Findings[1].Check != "b" || f.Findings[1].Detail != "second" || f.Findings[1].Outcome != reason.Passed {
		t.Errorf("findings %+v", f.Findings)
	}
}
