// Package cluster asks the API server of the cluster that this pod runs in for a
// service-account token made for the challenge (TokenRequest), where the kubelet's
// projected token has the audience of the pod's manifest.
//
// The server is found by the operator's word and proved by the CA that is mounted
// into the pod; no environment variable, proxy or redirect chooses another. What is
// sent there is the pod's own token, which opens what the account may do: it goes
// into no error, and to nobody else.
package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
)

// DefaultAccount is the folder that every pod has its own account in: ca.crt and
// token.
const DefaultAccount = "/var/run/secrets/kubernetes.io/serviceaccount"

const (
	requestTime = 5 * time.Second
	dialTime    = 3 * time.Second
	maxHeader   = 16 << 10
	maxAnswer   = 64 << 10 // a TokenRequest with its token, or a Status
	maxToken    = 16 << 10
	maxCA       = 256 << 10
	// lifetime is the shortest that API servers give, in seconds.
	lifetime = 600
)

// Names and UIDs of objects (Kubernetes: Object names and IDs), of which two go into
// a path.
var (
	objectName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)
	objectUID  = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)
)

// PSAT collects tokens of this pod, one for each challenge.
type PSAT struct {
	// Server is the API server, as host:port.
	Server string
	// Account is the folder with ca.crt and token, which the kubelet replaces before
	// they end; "" is DefaultAccount.
	Account string
	// Root is put before Account; "" is the running system.
	Root string
}

// Check says why Server is none, nil if it can be one.
func (c PSAT) Check() error {
	host, port, err := net.SplitHostPort(c.Server)
	u, urlErr := url.Parse("https://" + c.Server)
	if err != nil || urlErr != nil || host == "" || port == "" || u.Host != c.Server {
		return &collect.Error{What: "choose the API server", Why: fmt.Sprintf("%.80q is not host:port", c.Server), Fix: "say --token-request kubernetes.default.svc:443"}
	}
	return nil
}

// Format is k8s.psat.
func (PSAT) Format() string { return verifier.FormatK8sPSAT }

// Detect reads the pod's own account and asks nobody: whether the account may ask
// for tokens, the first attestation shows.
func (c PSAT) Detect(context.Context) collect.Finding {
	if _, err := c.account(); err != nil {
		return collect.Missing(c.Format(), document.ClassB, err)
	}
	return collect.Yes(c.Format(), document.ClassB, "token of "+c.Server+" for each challenge, where the account may ask for one")
}

// account is what the pod knows of itself: a CA, its token, and what that says.
type account struct {
	roots     *x509.CertPool
	token     string
	namespace string
	name      string
	pod       object
}

type object struct {
	Name string `json:"name"`
	UID  string `json:"uid"`
}

// account reads the folder anew: both files change under a running pod. Whom the
// token speaks of nobody verified; it is this pod's own, and the server judges it.
func (c PSAT) account() (account, error) {
	folder := c.Account
	if folder == "" {
		folder = DefaultAccount
	}
	folder = collect.File(c.Root, folder)
	fault := func(why, fix string, err error) (account, error) {
		return account{}, &collect.Error{What: "read the pod's account", Why: why, Fix: fix, Err: err}
	}
	const mount = "run in a pod with automountServiceAccountToken, or name the folder with --service-account"
	ca, err := collect.Read(filepath.Join(folder, "ca.crt"), maxCA)
	if err != nil {
		return fault(err.Error(), mount, err)
	}
	out := account{roots: x509.NewCertPool()}
	if !out.roots.AppendCertsFromPEM(ca) {
		return fault(filepath.Join(folder, "ca.crt")+" holds no certificate", mount, nil)
	}
	raw, err := collect.Read(filepath.Join(folder, "token"), maxToken)
	if err != nil {
		return fault(err.Error(), mount, err)
	}
	out.token = strings.TrimSpace(string(raw))
	var claims struct {
		Kubernetes struct {
			Namespace string `json:"namespace"`
			Account   object `json:"serviceaccount"`
			Pod       object `json:"pod"`
		} `json:"kubernetes.io"`
	}
	if err := claimsOf(out.token, &claims); err != nil {
		return fault(filepath.Join(folder, "token")+" holds no token of a service account", mount, nil)
	}
	k := &claims.Kubernetes
	out.namespace, out.name, out.pod = k.Namespace, k.Account.Name, k.Pod
	if !objectName.MatchString(out.namespace) || !objectName.MatchString(out.name) || !objectName.MatchString(out.pod.Name) || !objectUID.MatchString(out.pod.UID) {
		return fault("the token is bound to no pod", "mount the token that the kubelet projects, not one of a Secret", nil)
	}
	return out, nil
}

// claimsOf reads what a token says of itself, verified by nobody.
func claimsOf(token string, into any) error {
	parts := strings.Split(token, ".")
	if len(parts) != 3 || strings.Trim(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
		return errors.New("not a token")
	}
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return err
	}
	return json.Unmarshal(claims, into)
}

// tokenRequest is what is asked and what is answered (Kubernetes: TokenRequest v1).
type tokenRequest struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Spec       spec   `json:"spec"`
	Status     struct {
		Token string `json:"token"`
	} `json:"status,omitzero"`
}

type spec struct {
	Audiences []string `json:"audiences"`
	Seconds   int      `json:"expirationSeconds"`
	Bound     bound    `json:"boundObjectRef"`
}

type bound struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	object
}

// Collect asks for a token whose audience carries the challenge, bound to this pod.
func (c PSAT) Collect(ctx context.Context, b collect.Bound) (verifier.Item, error) {
	if err := c.Check(); err != nil {
		return verifier.Item{}, err
	}
	own, err := c.account()
	if err != nil {
		return verifier.Item{}, err
	}
	audience := document.Audience(b.Value)
	question, err := json.Marshal(tokenRequest{APIVersion: "authentication.k8s.io/v1", Kind: "TokenRequest", Spec: spec{
		Audiences: []string{audience}, Seconds: lifetime, Bound: bound{"v1", "Pod", own.pod},
	}})
	if err != nil {
		return verifier.Item{}, err
	}
	answer, err := c.post(ctx, own, question)
	if err != nil {
		return verifier.Item{}, err
	}
	var got tokenRequest
	if err := json.Unmarshal(answer, &got); err != nil || got.Kind != "TokenRequest" || len(got.Status.Token) > maxToken {
		return verifier.Item{}, fault("its answer is no TokenRequest", "", nil)
	}
	// A token for the API server itself would be a credential, and no document.
	var claims struct {
		Audience audiences `json:"aud"`
	}
	if err := claimsOf(got.Status.Token, &claims); err != nil || len(claims.Audience) != 1 || claims.Audience[0] != audience {
		return verifier.Item{}, fault("the token that it gave is not for the audience that was asked for", "", nil)
	}
	return verifier.Item{Format: c.Format(), Document: []byte(got.Status.Token)}, nil
}

// audiences are one or a list.
type audiences []string

func (a *audiences) UnmarshalJSON(raw []byte) error {
	if len(raw) > 0 && raw[0] == '"' {
		*a = make(audiences, 1)
		return json.Unmarshal(raw, &(*a)[0])
	}
	return json.Unmarshal(raw, (*[]string)(a))
}

func fault(why, fix string, err error) error {
	return &collect.Error{What: "ask the API server for a token", Why: why, Fix: fix, Err: err}
}

// post asks once. The connection is not kept: a renewal is minutes away, and the CA
// may be another by then.
func (c PSAT) post(ctx context.Context, own account, question []byte) ([]byte, error) {
	client := &http.Client{
		Timeout: requestTime,
		Transport: &http.Transport{
			Proxy: nil, DialContext: (&net.Dialer{Timeout: dialTime}).DialContext, ForceAttemptHTTP2: true, DisableKeepAlives: true,
			TLSClientConfig:        &tls.Config{RootCAs: own.roots, MinVersion: tls.VersionTLS12},
			MaxResponseHeaderBytes: maxHeader, DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	path := "/api/v1/namespaces/" + own.namespace + "/serviceaccounts/" + own.name + "/token"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+c.Server+path, bytes.NewReader(question))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+own.token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	res, err := client.Do(req)
	if err != nil {
		return nil, fault(err.Error(), "look at --token-request", err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := collect.ReadAll(res.Body, maxAnswer)
	if err != nil {
		return nil, fault(err.Error(), "", err)
	}
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	switch {
	case res.StatusCode != http.StatusCreated:
		return nil, refused(res.StatusCode, kind, body, path)
	case kind != "application/json":
		return nil, fault(fmt.Sprintf("it answered with %.40q, not JSON", kind), "", nil)
	}
	return body, nil
}

// refused turns a Status of the API server into words. Its message names the account
// and what it may not do, and no token.
func refused(code int, kind string, body []byte, path string) error {
	var status struct {
		Message string `json:"message"`
	}
	why := fmt.Sprintf("it answered %d", code)
	if kind == "application/json" && json.Unmarshal(body, &status) == nil && status.Message != "" {
		why += fmt.Sprintf(": %.300q", status.Message)
	}
	fix := ""
	switch code {
	case http.StatusUnauthorized:
		fix = "look at the folder of --service-account: its token is not one of this cluster, or has ended"
	case http.StatusForbidden:
		fix = "allow the account to create " + strings.TrimPrefix(path, "/api/v1/") + " (docs/evidence/k8s-psat.md)"
	}
	return fault(why, fix, nil)
}
