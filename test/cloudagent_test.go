package test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent/collect/clustertest"
	"github.com/zonebroker/zonebroker/broker/agent/collect/metadatatest"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
)

// TestAgentWithoutATPM: the binaries on a host whose metadata service is a local
// server that answers as Google's does, with tokens of a test key. The doctor sees
// what it could earn, the agent earns it twice, and the history is whole.
func TestAgentWithoutATPM(t *testing.T) {
	pl := newPlatforms(t)
	zone := documentZone("google", verifier.FormatGCEIdentity, "B", 1, "")
	c := newCluster(t, zone)
	pl.trust(t, c)
	p := c.start(t)
	p.ctl(t, nil, "node", "admit", "--owner", "gcp.project=proj-a")
	metadata := metadatatest.Google(t, map[string]metadatatest.Answer{
		"/computeMetadata/v1/instance/service-accounts/default/email": metadatatest.Text("agent@proj-a.iam.gserviceaccount.com"),
		"/computeMetadata/v1/instance/service-accounts/default/identity": func(r *http.Request) string {
			return string(pl.google.Token(documenttest.GCEClaims(r.URL.Query().Get("audience"), time.Now())))
		},
	})
	dir := t.TempDir()
	missing := filepath.Join(dir, "no-tpm")
	var report struct {
		Zones []struct {
			Zone     string `json:"zone"`
			Possible bool   `json:"possible"`
		} `json:"zones"`
	}
	doctor := c.rig.run(t, nil, "zoneagent", "doctor", "--server", "", "--policy", filepath.Join(c.dir, "zones"), "--metadata", metadata.URL, "--tpm", missing, "-o", "json")
	must(t, json.Unmarshal([]byte(doctor), &report))
	if len(report.Zones) != 1 || !report.Zones[0].Possible || report.Zones[0].Zone != "google" {
		t.Errorf("doctor: %s", doctor)
	}
	var first, again struct {
		Node   string `json:"node"`
		Zone   string `json:"zone"`
		Format string `json:"format"`
	}
	for _, into := range []any{&first, &again} {
		out := c.rig.run(t, nil, "zoneagent", "attest", "--once", "--server", p.url, "--pin", p.pin, "--format", verifier.FormatGCEIdentity,
			"--state", filepath.Join(dir, "state"), "--metadata", metadata.URL, "-o", "json")
		must(t, json.Unmarshal([]byte(out), into))
	}
	if first.Zone != "google" || first.Format != verifier.FormatGCEIdentity || first != again {
		t.Errorf("earned %+v, then %+v", first, again)
	}
	var n api.Node
	p.ctl(t, &n, "node", "show", first.Node)
	if n.RootKind != "gce.instance" || n.RootName != "847250625900/3015378661047007286" || n.AdmittedBy != "owner" {
		t.Errorf("node %+v", n)
	}
	var v api.Verification
	p.ctl(t, &v, "history", "verify")
	if !v.OK {
		t.Errorf("history verify = %+v", v)
	}
}

// TestAgentAsksItsCluster: the binaries in a pod whose API server is a local one of
// the documented form. The broker takes tokens of this cluster for its challenges
// alone, which a projected one is not; what the agent asks for each time is of class B
// and names the same pod.
func TestAgentAsksItsCluster(t *testing.T) {
	key := documenttest.NewJWTKey("cluster-1", "RS256")
	server := clustertest.New(t, key, time.Now, nil)
	c := newCluster(t, documentZone("pods", verifier.FormatK8sPSAT, "B", 1, ""))
	c.writeTrust(t, verifier.TrustJWKS, "cluster.json",
		documenttest.JWTObject(verifier.FormatK8sPSAT, documenttest.ClusterIssuer, nil, key.JWK()))
	p := c.start(t)
	p.ctl(t, nil, "node", "admit", "--owner", "k8s.cluster="+documenttest.ClusterIssuer)
	dir := t.TempDir()
	projected := filepath.Join(dir, "projected")
	must(t, os.WriteFile(projected, key.Token(documenttest.PSATClaims("zonebroker", time.Now())), 0o600))
	attest := []string{"attest", "--once", "--server", p.url, "--pin", p.pin, "--format", verifier.FormatK8sPSAT, "--state", filepath.Join(dir, "state"), "-o", "json"}
	if _, why, code := c.rig.try(t, nil, "zoneagent", append(attest, "--token-file", projected)...); code != 3 || !strings.Contains(why, "jwt.audience") {
		t.Errorf("with the projected token: %d, %s", code, why)
	}
	var first, again struct {
		Node string `json:"node"`
		Zone string `json:"zone"`
	}
	for _, into := range []any{&first, &again} {
		out := c.rig.run(t, nil, "zoneagent", append(attest, "--token-request", server.Address, "--service-account", server.Account)...)
		must(t, json.Unmarshal([]byte(out), into))
	}
	if asked := server.Asked(); first.Zone != "pods" || first != again || len(asked) != 2 || asked[0] == asked[1] {
		t.Errorf("earned %+v, then %+v, with tokens for %v", first, again, asked)
	}
}
