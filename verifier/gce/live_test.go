package gce_test

import (
	"slices"
	"strings"
	"testing"

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
