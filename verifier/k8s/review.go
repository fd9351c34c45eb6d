package k8s

import (
	"encoding/json"
	"slices"

	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/strictjson"
)

// PartTokenReview is the part of k8s.psat that the broker adds: what the cluster
// answered to Review. What an agent sends under this name has to be thrown away.
const PartTokenReview = "token_review"

// MaxReview bounds an answer, in bytes.
const MaxReview = 64 << 10

// reviewVersion is the only one there is.
const reviewVersion = "authentication.k8s.io/v1"

// keys of user.extra in an answer (Kubernetes: Managing service accounts, "Verifying
// and inspecting private claims"). Clusters before 1.32 do not tell the node.
const (
	extraPodName = "authentication.kubernetes.io/pod-name"
	extraPodUID  = "authentication.kubernetes.io/pod-uid"
	extraNode    = "authentication.kubernetes.io/node-name"
)

// review is a TokenReview; what is asked and what is answered.
type review struct {
	APIVersion string        `json:"apiVersion"`
	Kind       string        `json:"kind"`
	Spec       *reviewSpec   `json:"spec,omitempty"`
	Status     *reviewStatus `json:"status,omitempty"`
}

type reviewSpec struct {
	Token     string   `json:"token"`
	Audiences []string `json:"audiences"`
}

type reviewStatus struct {
	Authenticated bool     `json:"authenticated"`
	Audiences     []string `json:"audiences"`
	Error         string   `json:"error"`
	User          struct {
		Username string              `json:"username"`
		UID      string              `json:"uid"`
		Extra    map[string][]string `json:"extra"`
	} `json:"user"`
}

// Review returns the body to POST to /apis/authentication.k8s.io/v1/tokenreviews
// for a token that Verify took, and for the audience that it has. It names the
// token: whoever logs it logs a credential.
func Review(token []byte, audience string) ([]byte, error) {
	return json.Marshal(review{
		APIVersion: reviewVersion, Kind: "TokenReview", Spec: &reviewSpec{Token: string(token), Audiences: []string{audience}},
	})
}

// Reviewed judges what the cluster answered for the token: the offline check knows
// nothing of pods that were deleted. Errors: request.too_large; k8s.revoked where
// the cluster does not say that the token is good for its audience, or the answer
// is none; k8s.subject where it speaks of another account or pod than the token,
// by UID, as names are used again.
func (t Token) Reviewed(answer []byte) (Token, error) {
	if len(answer) > MaxReview {
		return Token{}, reason.New(reason.RequestTooLarge, "the answer of the cluster is longer than 64 KiB")
	}
	var r review
	if err := strictjson.Unmarshal(answer, &r); err != nil {
		return Token{}, reason.Wrap(reason.K8sRevoked, "the answer of the cluster is not a TokenReview in strict JSON", err)
	}
	if r.APIVersion != reviewVersion || r.Kind != "TokenReview" || r.Status == nil {
		return Token{}, reason.New(reason.K8sRevoked, "the answer of the cluster is not a TokenReview with a status")
	}
	s := r.Status
	if !s.Authenticated || s.Error != "" {
		return Token{}, reason.New(reason.K8sRevoked, "the cluster does not know the token any more")
	}
	// A cluster that leaves audiences out did not look at them.
	if !slices.Equal(s.Audiences, []string{t.audience}) {
		return Token{}, reason.New(reason.K8sRevoked, "the cluster does not say that the token is for this audience")
	}
	k := &t.claims.Kubernetes
	same := func(key, want string) bool { return slices.Equal(s.User.Extra[key], []string{want}) }
	if s.User.Username != t.claims.Subject || s.User.UID != k.Account.UID || !same(extraPodUID, k.Pod.UID) || !same(extraPodName, k.Pod.Name) {
		return Token{}, reason.New(reason.K8sSubject, "the cluster speaks of another account or pod than the token")
	}
	if _, told := s.User.Extra[extraNode]; told && !same(extraNode, k.Node.Name) {
		return Token{}, reason.New(reason.K8sSubject, "the cluster speaks of another node than the token")
	}
	t.reviewed = true
	return t, nil
}
