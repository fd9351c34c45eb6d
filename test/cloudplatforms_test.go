package test

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
	"github.com/zonebroker/zonebroker/broker/agent/collect/ec2"
	"github.com/zonebroker/zonebroker/broker/agent/collect/metadata"
	"github.com/zonebroker/zonebroker/broker/agent/collect/metadatatest"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
)

// platformServer is a platform that a broker asks, on this host.
type platformServer struct{ *httptest.Server }

func newPlatformServer(t testing.TB, handler http.HandlerFunc) platformServer {
	t.Helper()
	s := httptest.NewTLSServer(handler)
	t.Cleanup(s.Close)
	return platformServer{s}
}

func (s platformServer) address() string { return s.Listener.Addr().String() }

func (s platformServer) certificate() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

// awsSTS is the security token service of AWS as far as GetCallerIdentity goes
// (docs.aws.amazon.com, "Create a signed AWS API request"), and an instance with a
// role beside it. It knows one secret, and answers who signed with that.
type awsSTS struct {
	platformServer
	role, thief ec2.STS // the agent of the instance, and one with another secret
}

const (
	roleSecret  = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	rolePath    = "/latest/meta-data/iam/security-credentials/"
	roleAccount = "210987654321"
)

func newAWSSTS(t testing.TB) *awsSTS {
	t.Helper()
	s := &awsSTS{platformServer: newPlatformServer(t, callerIdentity)}
	agent := func(secret string) ec2.STS {
		credentials, err := json.Marshal(map[string]string{"Code": "Success", "AccessKeyId": "ASIAIOSFODNN7EXAMPLE", "SecretAccessKey": secret, "Token": "session"})
		must(t, err)
		instance := metadatatest.AWS(t, map[string]metadatatest.Answer{
			"/latest/meta-data/placement/region": metadatatest.Text("eu-central-1"),
			rolePath:                             metadatatest.Text("web"),
			rolePath + "web":                     metadatatest.Text(string(credentials)),
		})
		service, err := metadata.New(metadata.Config{URL: instance.URL})
		must(t, err)
		return ec2.STS{Metadata: service, Now: time.Now}
	}
	s.role, s.thief = agent(roleSecret), agent("another")
	return s
}

func stsDoc(agent ec2.STS) item {
	return func(t testing.TB, b collect.Bound) api.Item {
		i, err := agent.Collect(t.Context(), b)
		must(t, err)
		return api.Item{Document: i.Document}
	}
}

// callerIdentity answers 200 where the signature is the role's, over the headers that
// it names and the request as it came.
func callerIdentity(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	_, signed, _ := strings.Cut(r.Header.Get("Authorization"), "SignedHeaders=")
	names, signature, _ := strings.Cut(signed, ", Signature=")
	canonical := r.Method + "\n" + r.URL.Path + "\n" + r.URL.RawQuery + "\n"
	for name := range strings.SplitSeq(names, ";") {
		value := r.Header.Get(name)
		if name == "host" {
			value = r.Host
		}
		canonical += name + ":" + value + "\n"
	}
	canonical += "\n" + names + "\n" + hashHex(body)
	date := r.Header.Get("X-Amz-Date")
	day := date[:min(8, len(date))]
	key := []byte("AWS4" + roleSecret)
	for _, part := range []string{day, "eu-central-1", "sts", "aws4_request", "AWS4-HMAC-SHA256\n" + date + "\n" + day + "/eu-central-1/sts/aws4_request\n" + hashHex([]byte(canonical))} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	if r.Host != "sts.eu-central-1.amazonaws.com" || string(body) != "Action=GetCallerIdentity&Version=2011-06-15" || signature != hex.EncodeToString(key) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"Error":{"Code":"SignatureDoesNotMatch","Type":"Sender"}}`)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, `{"GetCallerIdentityResponse":{"GetCallerIdentityResult":{"Account":%q,"Arn":"arn:aws:sts::%s:assumed-role/web/i-0123456789abcdef0",`+
		`"UserId":"AROACKCEVSQ6C2EXAMPLE:i-0123456789abcdef0"},"ResponseMetadata":{"RequestId":"1"}}}`, roleAccount, roleAccount)
}

// Clusters: one that nobody is asked about (documenttest.ClusterIssuer), one whose
// API server is, and one whose tokens have an audience of their own.
const (
	reviewedIssuer = "https://reviewed.cluster.test"
	mountedIssuer  = "https://mounted.cluster.test"
	reviewerToken  = "reviewer"
)

// cluster8s is the API server of a cluster (Kubernetes API reference,
// authentication.k8s.io/v1, TokenReview). Pods of revoked tokens are gone.
type cluster8s struct {
	platformServer
	mu      sync.Mutex
	revoked map[string]bool
}

func newCluster8s(t testing.TB) *cluster8s {
	t.Helper()
	s := &cluster8s{revoked: map[string]bool{}}
	s.platformServer = newPlatformServer(t, s.review)
	return s
}

func (s *cluster8s) revoke(token []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revoked[string(token)] = true
}

func (s *cluster8s) review(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Spec struct {
			Token     string
			Audiences []string
		}
	}
	if r.URL.Path != "/apis/authentication.k8s.io/v1/tokenreviews" || r.Header.Get("Authorization") != "Bearer "+reviewerToken || json.NewDecoder(r.Body).Decode(&asked) != nil {
		http.Error(w, "", http.StatusUnauthorized)
		return
	}
	s.mu.Lock()
	revoked := s.revoked[asked.Spec.Token]
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	if revoked {
		_, _ = io.WriteString(w, `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","status":{"authenticated":false,"error":"pod is gone"}}`)
		return
	}
	_, _ = fmt.Fprintf(w, `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","metadata":{},"spec":{},"status":{"authenticated":true,"audiences":[%q],"user":{`+
		`"username":"system:serviceaccount:payments:agent","uid":"6808b4c7-0b53-45f4-83f7-e8937756eeae","groups":["system:serviceaccounts"],"extra":{`+
		`"authentication.kubernetes.io/pod-name":["agent-x7"],"authentication.kubernetes.io/pod-uid":["f9023702-f4ed-4ed9-ab40-bc69142aa9a6"],`+
		`"authentication.kubernetes.io/node-name":["worker-1"]}}}}`, asked.Spec.Audiences[0])
}

// podDoc is a token of a pod of a cluster; a gone one is of a pod that was deleted,
// and what has an audience of its own was made when the pod was.
func (m *makers) podDoc(issuer, audience string, gone bool) item {
	made := time.Duration(0)
	if audience != "" {
		made = -6 * time.Minute
	}
	return func(_ testing.TB, b collect.Bound) api.Item {
		token := m.issuer.Token(documenttest.PSATClaims(cmp.Or(audience, document.Audience(b.Value)), time.Now().Add(made)).With(documenttest.Claims{"iss": issuer}))
		if gone {
			m.cluster.revoke(token)
		}
		return api.Item{Document: token}
	}
}
