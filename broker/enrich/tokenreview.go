package enrich

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/k8s"
)

// Cluster says how the API server of a cluster is asked about tokens.
type Cluster struct {
	Address string // of the API server, host:port
	CA      string // file with the cluster's CA in PEM
	// Token is a file with a token that may create TokenReviews (the ClusterRole
	// system:auth-delegator). Kubernetes mounts such files readable for the group,
	// so that their mode is the operator's affair.
	Token   string
	Timeout time.Duration // 0 for DefaultTimeout
}

// TokenReviews asks clusters whether a pod's token was revoked.
type TokenReviews struct {
	clusters map[string]*cluster // by issuer
}

type cluster struct {
	calls *caller
	host  string
	token string
}

// NewTokenReviews makes one for clusters by the issuer of their tokens. Errors: a CA
// that cannot be read.
func NewTokenReviews(clusters map[string]Cluster) (*TokenReviews, error) {
	out := &TokenReviews{clusters: map[string]*cluster{}}
	for issuer, c := range clusters {
		raw, err := os.ReadFile(c.CA) // #nosec G304 -- the operator names it
		if err != nil {
			return nil, err
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(raw) {
			return nil, fmt.Errorf("%s holds no certificate", c.CA)
		}
		if c.Address == "" {
			return nil, fmt.Errorf("the cluster of %s has no address", issuer)
		}
		out.clusters[issuer] = &cluster{newCaller(Endpoint{RootCAs: roots, Timeout: c.Timeout}), c.Address, c.Token}
	}
	return out, nil
}

// Name returns "k8s.tokenreview".
func (*TokenReviews) Name() string { return "k8s.tokenreview" }

// Format returns the format that it is about.
func (*TokenReviews) Format() string { return verifier.FormatK8sPSAT }

// Essential returns false: the token proves something by the cluster's key alone.
func (*TokenReviews) Essential() bool { return false }

// Enrich asks the cluster that the token names, if it is configured, and returns
// the answer as it is, as part k8s.PartTokenReview. The claims are read before
// anybody verified them: they choose among configured clusters, and the answer
// counts only for the verified token.
func (t *TokenReviews) Enrich(ctx context.Context, item verifier.Item, _ [32]byte) (map[string][]byte, error) {
	var claims struct {
		Issuer   string   `json:"iss"`
		Audience []string `json:"aud"`
	}
	if err := claimsOf(item.Document, &claims); err != nil {
		return nil, err
	}
	c, known := t.clusters[claims.Issuer]
	if !known || len(claims.Audience) != 1 {
		return nil, errors.New("no cluster is configured for the issuer of the token, or it has not one audience")
	}
	body, err := k8s.Review(item.Document, claims.Audience[0])
	if err != nil {
		return nil, err
	}
	token, err := mounted(c.token)
	if err != nil {
		return nil, err
	}
	header := authorized(token)
	header.Set("Content-Type", "application/json")
	got, err := c.calls.send(ctx, request{
		method: http.MethodPost, host: c.host, path: "/apis/authentication.k8s.io/v1/tokenreviews", header: header, body: string(body),
	})
	if err == nil {
		err = got.is(http.StatusCreated, "application/json")
	}
	if err != nil {
		return nil, fmt.Errorf("TokenReview: %w", err)
	}
	return map[string][]byte{k8s.PartTokenReview: got.body}, nil
}
