package policy_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/broker/policy"
)

const reachZones = `apiVersion: zonebroker/v1
kind: Zone
name: NAME
tier: 1
priority: PRIORITY
selectors: {any: [{group: g}]}
admit: [operator]
requires: {REQUIRES}
`

func TestReachOfAHost(t *testing.T) {
	var files []policy.File
	for i, z := range [][2]string{
		{"beside", "format: [tpm2], class: A, evidence: {all: [gce.identity], any: [gce.akcert, snp]}"},
		{"firm", "format: [gce.identity, snp], class: A"},
		{"measured", "format: [tpm2], class: A, secure_boot: true"},
		{"tokens", "format: [gce.identity, jointoken], class: B"},
	} {
		text := strings.NewReplacer("NAME", z[0], "PRIORITY", string(rune('1'+i)), "REQUIRES", z[1]).Replace(reachZones)
		files = append(files, policy.File{Name: z[0] + ".yaml", Bytes: []byte(text)})
	}
	set, problems := policy.Load(files)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for name, c := range map[string]struct {
		have map[string]string
		want []string // zones within reach
	}{
		"nothing":          {nil, nil},
		"a TPM":            {map[string]string{"tpm2": "A"}, []string{"measured"}},
		"a token":          {map[string]string{"gce.identity": "B"}, []string{"tokens"}},
		"a join token":     {map[string]string{"jointoken": "C"}, nil},
		"a report":         {map[string]string{"snp": "A"}, []string{"firm"}},
		"report and token": {map[string]string{"snp": "A", "gce.identity": "B"}, []string{"firm", "tokens"}},
		"TPM and token":    {map[string]string{"tpm2": "A", "gce.identity": "B"}, []string{"measured", "tokens"}},
		"everything":       {map[string]string{"tpm2": "A", "gce.identity": "B", "snp": "A"}, []string{"beside", "firm", "measured", "tokens"}},
	} {
		var got []string
		for _, r := range set.Reach(c.have) {
			if len(r.Missing) == 0 {
				got = append(got, r.Zone)
			}
			if !slices.Contains(r.Open, "admission by operator") || slices.Contains(r.Open, "secure boot") != (r.Zone == "measured") {
				t.Errorf("%s, %s: open %q", name, r.Zone, r.Open)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	var none *policy.Set
	if none.Reach(nil) != nil {
		t.Error("zones of no policy")
	}
}
