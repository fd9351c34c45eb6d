package test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/zonebroker/zonebroker/broker/api"
)

// The programs here are Python: another gRPC, another TLS, another reader of
// JSON and of JWTs. What they accept does not rest on a library that Zonebroker
// uses itself.

// foreigner is a host whose agent runs, and what a foreign program is handed.
type foreigner struct {
	*scene
	replica *replica
	input   map[string]string
}

func newForeigner(t *testing.T) *foreigner {
	t.Helper()
	c := newCluster(t, exampleZoneForMe())
	p := c.start(t)
	h := newHost(t, c.rig)
	h.admit(p)
	f := &foreigner{replica: p, scene: &scene{rig: c.rig, dir: filepath.Join(h.dir, "foreign"), env: []string{"PATH=" + c.rig.bin + ":" + pathOf(c.rig)}}}
	must(t, os.MkdirAll(f.dir, 0o700))
	f.background(t, "zoneagent run --server "+p.url+" --pin "+p.pin+" --workload-api ./w.sock --state ./state --tpm swtpm:"+h.tpm.Socket()+" --event-log "+h.log)
	eventually(t, 30*time.Second, "the agent is ready", func() bool {
		_, err := f.shell(t.Context(), "zoneagent health --state ./state")
		return err == nil
	})
	f.input = map[string]string{
		"target": "unix://" + filepath.Join(f.dir, "w.sock"), "descriptors": filepath.Join(f.dir, "workload.pb"),
		"audience": "payments-api", "anchor": filepath.Join(p.dir, "anchor.pem"), "issuer": p.url,
	}
	must(t, os.WriteFile(f.input["descriptors"], descriptors(t), 0o600))
	return f
}

// descriptors are what protoc would hand to another language: the Workload API
// as SPIFFE publishes it, with what it imports.
func descriptors(t *testing.T) []byte {
	t.Helper()
	var set descriptorpb.FileDescriptorSet
	seen := map[string]bool{}
	var add func(protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if seen[f.Path()] {
			return
		}
		seen[f.Path()] = true
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i).FileDescriptor)
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(f))
	}
	add(workload.File_workload_proto)
	raw, err := proto.Marshal(&set)
	must(t, err)
	return raw
}

// python runs a program of testdata/foreign and decodes what it prints.
func (f *foreigner) python(t *testing.T, name string, into any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	input, err := json.Marshal(f.input)
	must(t, err)
	cmd := exec.CommandContext(ctx, f.rig.programs.Path("python3"), "-I", filepath.Join("testdata", "foreign", name))
	cmd.Stdin = bytes.NewReader(input)
	// grpcio would ask a proxy of the environment for a Unix socket.
	cmd.Env = append(os.Environ(), "GRPC_ENABLE_FORK_SUPPORT=0", "no_grpc_proxy=*", "PYTHONDONTWRITEBYTECODE=1")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", name, err, out, said.String())
	}
	if err := json.Unmarshal(out, into); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// TestForeignWorkloadAPI: a program in Python with the gRPC core library gets
// identities from a real agent, and is refused what SPIFFE says it has to be.
func TestForeignWorkloadAPI(t *testing.T) {
	f := newForeigner(t)
	var got struct {
		ID          string   `json:"id"`          // of the response
		URIs        []string `json:"uris"`        // of the certificate
		KeyMatches  bool     `json:"key_matches"` // the key that came is that of the certificate
		Verifies    bool     `json:"verifies"`    // each certificate by the next, the last by the bundle
		WithoutMark string   `json:"without_mark"`
		WrongMark   string   `json:"wrong_mark"`
		Domains     []string `json:"domains"` // of FetchX509Bundles
		TokenID     string   `json:"token_id"`
		Validated   string   `json:"validated"`    // by ValidateJWTSVID, as this audience
		OtherReader string   `json:"other_reader"` // as another
		NoAudience  string   `json:"no_audience"`  // status of a request without one
		OtherWanted string   `json:"other_wanted"` // status of a request for an audience that the zone does not list
		StreamStays bool     `json:"stream_stays"` // open after the first answer
		Unknown     string   `json:"unknown_method"`
	}
	f.python(t, "workload.py", &got)
	const id = "spiffe://" + trustDomain + "/zone/payments/workload/shop"
	if got.ID != id || len(got.URIs) != 1 || got.URIs[0] != id || got.TokenID != id || got.Validated != id {
		t.Errorf("identities: %+v, want %s everywhere", got, id)
	}
	if !got.KeyMatches || !got.Verifies || !got.StreamStays {
		t.Errorf("the SVID: %+v", got)
	}
	if len(got.Domains) != 1 || got.Domains[0] != "spiffe://"+trustDomain {
		t.Errorf("bundles of %q", got.Domains)
	}
	for what, code := range map[string][2]string{
		"without the security header":        {got.WithoutMark, "INVALID_ARGUMENT"},
		"with another value of the header":   {got.WrongMark, "INVALID_ARGUMENT"},
		"a token without audience":           {got.NoAudience, "INVALID_ARGUMENT"},
		"a token for an audience not listed": {got.OtherWanted, "PERMISSION_DENIED"},
		"a token checked for another reader": {got.OtherReader, "INVALID_ARGUMENT"},
		"an unknown method":                  {got.Unknown, "UNIMPLEMENTED"},
	} {
		if code[0] != code[1] {
			t.Errorf("%s: %q, want %s", what, code[0], code[1])
		}
	}
}

// TestForeignOIDC: PyJWT finds the keys through the discovery document of a real
// replica, over TLS that it trusts by the anchor alone, and verifies a token.
func TestForeignOIDC(t *testing.T) {
	f := newForeigner(t)
	out, err := f.shell(t.Context(), "zoneagent fetch jwt --audience payments-api --socket ./w.sock")
	must(t, err)
	f.input["token"] = strings.TrimSpace(out)
	var got struct {
		Claims       map[string]any    `json:"claims"`
		Algorithm    string            `json:"algorithm"`
		Uses         []string          `json:"uses"`           // of the keys in the set
		Refused      map[string]string `json:"refused"`        // name of what was changed → PyJWT's exception
		Distrusted   string            `json:"distrusted"`     // TLS without the anchor
		KeysOfOthers bool              `json:"keys_of_others"` // members that only CAs have
	}
	f.python(t, "oidc.py", &got)
	if got.Claims["sub"] != "spiffe://"+trustDomain+"/zone/payments/workload/shop" || got.Claims["iss"] != f.replica.url || got.Algorithm != "ES256" {
		t.Errorf("claims %v signed with %s", got.Claims, got.Algorithm)
	}
	for _, use := range got.Uses {
		if use != "sig" {
			t.Errorf("a key of use %q in a set for OIDC", use)
		}
	}
	if len(got.Uses) < 2 || got.KeysOfOthers {
		t.Errorf("keys of uses %q, X.509 members: %v", got.Uses, got.KeysOfOthers)
	}
	for what, want := range map[string]string{
		"audience": "InvalidAudienceError", "issuer": "InvalidIssuerError", "payload": "InvalidSignatureError",
		"signature": "InvalidSignatureError", "none": "InvalidAlgorithmError", "later": "ExpiredSignatureError",
	} {
		if got.Refused[what] != want {
			t.Errorf("a token with another %s: %q, want %s", what, got.Refused[what], want)
		}
	}
	if got.Distrusted != "SSLCertVerificationError" {
		t.Errorf("TLS without the anchor: %q", got.Distrusted)
	}
	// The record of the token is the one that its jti names.
	var e api.Entry
	f.replica.ctl(t, &e, "history", "show", got.Claims["jti"].(string))
	if e.Type != "svid.issued" {
		t.Errorf("the record of the token is %+v", e)
	}
}
