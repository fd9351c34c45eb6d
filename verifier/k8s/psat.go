package k8s

import (
	"fmt"
	"regexp"
	"time"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Profile is what the format says of its issuers. API servers sign RS256 or ES256;
// a token that lives longer than an hour is one whose expiry was extended, or the
// operator allows it by max_lifetime. With an audience of its own a cluster's
// tokens are bearer documents; without one each is asked for with the challenge's.
var Profile = jwt.Profile{
	Format: "k8s.psat", Algorithms: []string{"RS256", "ES256"}, MaxLifetime: 3700 * time.Second, Members: []string{"audience", "cluster"},
}

// NewIssuers is jwt.NewIssuers for clusters: two that have the same issuer (as all
// have that were left at the default) need names that tell them apart, or a pod of
// one would be a pod of the other.
func NewIssuers(clusters []jwt.Settings) (jwt.Issuers, error) {
	names := map[string]string{}
	for _, c := range clusters {
		name := clusterOf(c)
		if other, taken := names[name]; taken {
			return jwt.Issuers{}, fmt.Errorf("jwks/%s and jwks/%s are both cluster %q: give one of them another name by member cluster", other, c.Name, name)
		}
		names[name] = c.Name
	}
	return jwt.NewIssuers(Profile, clusters)
}

// clusterOf is what a cluster is called: the configured name, else its issuer.
func clusterOf(s jwt.Settings) string {
	if s.Cluster != "" {
		return s.Cluster
	}
	return s.Issuer
}

// Token is a verified token of a pod. The zero value says nothing.
type Token struct {
	token    jwt.Token
	claims   claims
	audience string
	reviewed bool
}

// claims are those of a bound token (Kubernetes: Managing service accounts, bound
// service account tokens).
type claims struct {
	Subject    string `json:"sub"`
	Kubernetes struct {
		Namespace string `json:"namespace"`
		Account   object `json:"serviceaccount"`
		Pod       object `json:"pod"`
		Node      object `json:"node"`
	} `json:"kubernetes.io"`
}

type object struct {
	Name string `json:"name"`
	UID  string `json:"uid"`
}

// Names of objects (Kubernetes: Object names and IDs) and their UIDs, in which
// nothing may be mistaken for the end of a name.
var (
	objectName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)
	objectUID  = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)
)

func (o object) valid() bool { return objectName.MatchString(o.Name) && objectUID.MatchString(o.UID) }

// validNode: tokens from before Kubernetes 1.29 name no node, and where the API server
// does not find the pod's its name stands there without a UID.
func (o object) validNode() bool {
	return o == object{} || objectName.MatchString(o.Name) && (o.UID == "" || objectUID.MatchString(o.UID))
}

// Verify judges a projected token. Errors: those of package jwt; k8s.subject where
// sub is not the service account that the claims name; k8s.no_pod where the token
// is bound to no pod, as secret tokens and those of kubectl create token are.
func Verify(raw []byte, want jwt.Expect, clusters jwt.Issuers, now time.Time) (Token, error) {
	token, err := clusters.Verify(raw, want, now)
	if err != nil {
		return Token{}, err
	}
	out := Token{token: token, audience: want.Audience}
	if token.FixedAudience() {
		out.audience = token.Issuer().Audience
	}
	if err := token.Decode(&out.claims); err != nil {
		return Token{}, err
	}
	k := &out.claims.Kubernetes
	switch {
	case !objectName.MatchString(k.Namespace) || !k.Account.valid() ||
		out.claims.Subject != "system:serviceaccount:"+k.Namespace+":"+k.Account.Name:
		return Token{}, reason.New(reason.K8sSubject, "sub is not the service account that the claims of the cluster name")
	case !k.Pod.valid():
		return Token{}, reason.New(reason.K8sNoPod, "the token is not bound to a pod")
	case !k.Node.validNode():
		return Token{}, reason.New(reason.K8sSubject, "the node in the token has no name")
	}
	return out, nil
}

// Audience returns the audience that the token was verified for: what a review has
// to ask for.
func (t Token) Audience() string { return t.audience }

// Facts returns what the token proved: class B where its audience was made for the
// challenge, C where it is the cluster's fixed one.
func (t Token) Facts() document.Facts {
	k := &t.claims.Kubernetes
	if k.Pod.UID == "" {
		return document.Facts{}
	}
	fresh := !t.token.FixedAudience()
	cluster := clusterOf(t.token.Issuer())
	f := document.Facts{
		Class: document.ClassC, NonceBound: fresh, KeyBound: fresh, IssuedAt: t.token.IssuedAt(), ExpiresAt: t.token.ExpiresAt(),
		Machine: document.Machine{Kind: document.MachinePod, Name: cluster + "/" + k.Pod.UID},
	}
	if fresh {
		f.Class = document.ClassB
	}
	f.Own(document.OwnerK8sCluster, cluster)
	f.Add("k8s.cluster", cluster)
	f.Add("k8s.namespace", k.Namespace)
	f.Add("k8s.service_account", k.Account.Name)
	f.Add("k8s.service_account_uid", k.Account.UID)
	f.Add("k8s.pod_name", k.Pod.Name)
	f.Add("k8s.pod_uid", k.Pod.UID)
	f.Add("k8s.node_name", k.Node.Name)
	f.Add("k8s.node_uid", k.Node.UID)
	f.Pass("k8s.psat.signature", "signed by cluster "+cluster)
	f.Pass("k8s.psat.pod", "bound to one pod")
	if t.reviewed {
		f.Add("k8s.review", "live")
		f.Confirm("k8s.psat.review", "the cluster says that token, pod and account are alive")
	}
	f.Sort()
	return f
}
