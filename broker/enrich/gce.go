package enrich

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/gce"
	"github.com/zonebroker/zonebroker/verifier/strictjson"
)

const (
	gceHost     = "compute.googleapis.com"
	gceMetadata = "metadata.google.internal"
)

// GCEConfig says how Google is asked about instances.
type GCEConfig struct {
	Compute Endpoint
	// Token is a file (0600) with an access token that something else keeps fresh. ""
	// takes those of the service account of the instance that the broker runs on. It
	// needs compute.instances.get in the projects of the documents.
	Token    string
	Metadata string           // replaces the address of the metadata service, as host:port
	Now      func() time.Time // nil for the clock of the machine
}

// GCE asks Google whether the instance of an identity token still runs.
type GCE struct {
	calls  *caller
	tokens *bearer
}

// NewGCE makes one.
func NewGCE(c GCEConfig) *GCE {
	return &GCE{calls: newCaller(c.Compute), tokens: newBearer(c.Token, c.Now, Endpoint{Address: c.Metadata, Timeout: c.Compute.Timeout}, request{
		method: http.MethodGet, host: gceMetadata, path: "/computeMetadata/v1/instance/service-accounts/default/token",
		header: http.Header{"Metadata-Flavor": {"Google"}},
	})}
}

// Name returns "gce.instances".
func (*GCE) Name() string { return "gce.instances" }

// Format returns the format that it is about.
func (*GCE) Format() string { return verifier.FormatGCEIdentity }

// Essential returns false: the token proves something alone.
func (*GCE) Essential() bool { return false }

// gceName is a label of RFC 1035, gceProject a project id, of a domain too.
var (
	gceName    = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)
	gceProject = regexp.MustCompile(`^([a-z0-9.-]{1,63}:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$`)
)

// gceInstance is the part, in the order of its names.
type gceInstance struct {
	ID     string            `json:"id"`
	Labels map[string]string `json:"labels"`
	Status string            `json:"status"`
	Tags   []string          `json:"tags"`
}

// Enrich reads the instance by the names in the token, and returns what Google says
// as part gce.PartInstance; its id, which names are given again to, is compared by
// the verifier. That there is no such instance is an answer too.
func (g *GCE) Enrich(ctx context.Context, item verifier.Item, _ [32]byte) (map[string][]byte, error) {
	var claims struct {
		Google struct {
			ComputeEngine struct {
				Project string `json:"project_id"`
				Zone    string `json:"zone"`
				Name    string `json:"instance_name"`
			} `json:"compute_engine"`
		} `json:"google"`
	}
	if err := claimsOf(item.Document, &claims); err != nil {
		return nil, err
	}
	ce := claims.Google.ComputeEngine
	if !gceProject.MatchString(ce.Project) || !gceName.MatchString(ce.Zone) || !gceName.MatchString(ce.Name) {
		return nil, errors.New("the token names no instance")
	}
	token, err := g.tokens.get(ctx)
	if err != nil {
		return nil, err
	}
	got, err := g.calls.send(ctx, request{
		method: http.MethodGet, host: gceHost, path: "/compute/v1/projects/" + ce.Project + "/zones/" + ce.Zone + "/instances/" + ce.Name,
		query: "fields=id,status,labels,tags(items)", header: authorized(token),
	})
	if err != nil {
		return nil, err
	}
	out := gceInstance{Labels: map[string]string{}, Status: "NOT_FOUND", Tags: []string{}}
	if got.status != http.StatusNotFound {
		if out, err = readGCE(got); err != nil {
			return nil, err
		}
	}
	part, err := json.Marshal(out)
	return map[string][]byte{gce.PartInstance: part}, err
}

func readGCE(got answer) (gceInstance, error) {
	if err := got.is(http.StatusOK, "application/json"); err != nil {
		return gceInstance{}, fmt.Errorf("instances.get: %w", err)
	}
	var in struct {
		ID     string            `json:"id"`
		Status string            `json:"status"`
		Labels map[string]string `json:"labels"`
		Tags   struct {
			Items []string `json:"items"`
		} `json:"tags"`
	}
	if err := strictjson.Unmarshal(got.body, &in); err != nil || in.ID == "" {
		return gceInstance{}, errors.New("instances.get: not an instance")
	}
	out := gceInstance{ID: in.ID, Labels: in.Labels, Status: in.Status, Tags: in.Tags.Items}
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	if out.Tags == nil {
		out.Tags = []string{}
	}
	return out, nil
}

// maxToken bounds tokens whose claims are read.
const maxToken = 16 << 10

// claimsOf reads the claims of a token that nobody verified here: for asking about
// what they name.
func claimsOf(token []byte, into any) error {
	parts := strings.Split(string(token[:min(len(token), maxToken)]), ".")
	if len(parts) != 3 || len(token) > maxToken {
		return errors.New("not a compact token of up to 16 KiB")
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(parts[1])
	if err != nil {
		return fmt.Errorf("claims of the token: %w", err)
	}
	return strictjson.Unmarshal(raw, into)
}

func authorized(token string) http.Header {
	return http.Header{"Authorization": {"Bearer " + token}, "Accept": {"application/json"}}
}
