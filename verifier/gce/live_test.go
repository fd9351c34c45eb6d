package gce_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/gce"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func TestIdentityLive(t *testing.T) {
	token, err := gce.VerifyIdentity(signer.Token(documenttest.GCEClaims(audience, noon)), want, google(t, signer), noon)
	if err != nil {
		t.Fatal(err)
	}
	id, _ := documenttest.GCEInstance()["instance_id"].(string)
	said := `{"id":"` + id + `","labels":{"b":"2","a":"1"},"status":"RUNNING","tags":["web"]}`
	facts := token.Facts()
	if err := token.Live([]byte(said), &facts); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(facts.Values("gce.label"), []string{"a=1", "b=2"}) || !slices.Equal(facts.Values("gce.tag"), []string{"web"}) {
		t.Errorf("%+v", facts.Selectors)
	}
	for name, change := range map[string][2]string{
		"stopped":                 {"RUNNING", "TERMINATED"},
		"another instance":        {id, "1"},
		"a member that is new":    {`"id"`, `"new":1,"id"`},
		"a member twice":          {`"id"`, `"id":"1","id"`},
		"labels that are no text": {`"2"`, `2`},
		"tags that are no text":   {`["web"]`, `[1]`},
		"too many tags":           {`["web"]`, `[` + strings.TrimSuffix(strings.Repeat(`"a",`, 65), ",") + `]`},
		"no JSON":                 {said, "x"},
	} {
		facts := token.Facts()
		before := len(facts.Selectors)
		if err := token.Live([]byte(strings.Replace(said, change[0], change[1], 1)), &facts); reason.Of(err) != reason.GCENoInstance || len(facts.Selectors) != before {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := token.Live(make([]byte, gce.MaxInstance+1), &facts); reason.Of(err) != reason.RequestTooLarge {
		t.Errorf("too large: %v", err)
	}
	if err := (gce.Identity{}).Live([]byte(said), &facts); reason.Of(err) != reason.GCENoInstance {
		t.Errorf("a token of nobody: %v", err)
	}
}

// TestIdentityLiveLimits: labels and tags at their bounds, in the order of their
// names, and the check that was made.
func TestIdentityLiveLimits(t *testing.T) {
	token, err := gce.VerifyIdentity(signer.Token(documenttest.GCEClaims(audience, noon)), want, google(t, signer), noon)
	if err != nil {
		t.Fatal(err)
	}
	id, _ := documenttest.GCEInstance()["instance_id"].(string)
	said := func(labels, tags int) string {
		var l, g []string
		for i := range labels {
			l = append(l, fmt.Sprintf(`"l%02d":"x"`, i))
		}
		for i := range tags {
			g = append(g, fmt.Sprintf(`"t%02d"`, i))
		}
		return `{"id":"` + id + `","labels":{` + strings.Join(l, ",") + `},"status":"RUNNING","tags":[` + strings.Join(g, ",") + `]}`
	}
	full := said(64, 64)
	for name, tc := range map[string]struct {
		said string
		code reason.Code
	}{
		"64 of both":        {full, ""},
		"65 labels":         {said(65, 0), reason.GCENoInstance},
		"as long as may be": {full + strings.Repeat(" ", gce.MaxInstance-len(full)), ""},
	} {
		facts := token.Facts()
		if err := token.Live([]byte(tc.said), &facts); reason.Of(err) != tc.code || tc.code != "" && facts.Confirmed {
			t.Errorf("%s: want %q, got %v", name, tc.code, err)
		}
		if tc.code != "" {
			continue
		}
		if labels := facts.Values("gce.label"); len(labels) != 64 || !slices.IsSorted(labels) {
			t.Errorf("%s: labels %v", name, labels)
		}
		if !slices.IsSortedFunc(facts.Selectors, func(a, b document.Selector) int { return strings.Compare(a.Name, b.Name) }) {
			t.Errorf("%s: selectors %v", name, facts.Selectors)
		}
		if last := facts.Findings[len(facts.Findings)-1]; last.Check != "gce.identity.live" || last.Outcome != reason.Passed || !facts.Confirmed {
			t.Errorf("%s: %+v", name, last)
		}
	}
}
