package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/documenttest"
)

// TestEnrichConfig: nobody is asked unless the operator says so, and what he says
// wrongly is told before the broker starts.
func TestEnrichConfig(t *testing.T) {
	ca := documenttest.NewX509CA(time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)).RootPEM()
	for name, tc := range map[string]struct {
		yaml  string
		names []string
		err   string
	}{
		"nothing":        {"", nil, ""},
		"absent members": {"enrich: {sts: }\n", nil, ""},
		"sts":            {"enrich: {sts: {}}\n", []string{"ec2.sts"}, ""},
		"all": {`enrich:
  sts: {address: "vpce-1.example:443", ca: ca.pem, timeout: 1s}
  ec2: {role: audit/zonebroker, credentials: aws.json}
  gce: {token: gce.token}
  azure: {cloud: usgov, ca: ca.pem}
  clusters: {"https://k8s.example": {address: "k8s.example:6443", ca: ca.pem, token: k8s.token}}
`, []string{"ec2.sts", "ec2.instances", "gce.instances", "azure.vms", "k8s.tokenreview"}, ""},
		"an unknown member":           {"enrich: {s3: {}}\n", nil, "field s3 not found"},
		"a CA that is missing":        {"enrich: {sts: {ca: gone.pem}}\n", nil, "enrich.sts: "},
		"a CA that is none":           {"enrich: {gce: {ca: zonebroker.yaml}}\n", nil, "enrich.gce: zonebroker.yaml holds no certificate"},
		"a CA for EC2 that is none":   {"enrich: {ec2: {ca: zonebroker.yaml}}\n", nil, "enrich.ec2: "},
		"a CA for Azure that is none": {"enrich: {azure: {ca: zonebroker.yaml}}\n", nil, "enrich.azure: "},
		"a role that is none":         {"enrich: {ec2: {role: a b}}\n", nil, "enrich.ec2: "},
		"a cloud that is none":        {"enrich: {azure: {cloud: mars}}\n", nil, "enrich.azure: "},
		"a cluster without a CA":      {"enrich: {clusters: {x: {address: a}}}\n", nil, "enrich.clusters: "},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for path, content := range map[string]string{configFile: "trust_domain: example.org\n" + tc.yaml, "ca.pem": string(ca)} {
				if err := os.WriteFile(filepath.Join(dir, path), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var names []string
			cfg, err := loadConfig(dir)
			if err == nil {
				enrichers, failed := cfg.Enrich.enrichers(dir)
				for _, e := range enrichers {
					names = append(names, e.Name())
				}
				err = failed
			}
			if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) || !slices.Equal(names, tc.names) {
				t.Errorf("%v, %v", names, err)
			}
		})
	}
}
