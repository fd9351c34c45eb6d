package enrich

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/ec2"
)

// STS sends the GetCallerIdentity request that an agent signed to AWS. The request
// is rebuilt from its pieces; the agent chooses the region out of a table, and
// nothing else.
type STS struct {
	calls *caller
	now   func() time.Time
}

// NewSTS makes one; a nil now is the clock of the machine.
func NewSTS(e Endpoint, now func() time.Time) *STS {
	if now == nil {
		now = time.Now
	}
	return &STS{calls: newCaller(e), now: now}
}

// Name returns "ec2.sts".
func (*STS) Name() string { return "ec2.sts" }

// Format returns the format that it is about.
func (*STS) Format() string { return verifier.FormatEC2STS }

// Essential returns true: the request proves nothing before AWS answered.
func (*STS) Essential() bool { return true }

// Enrich sends the request and returns what was answered, whatever it was, as part
// ec2.PartAnswer. A request that is not one costs no call.
func (s *STS) Enrich(ctx context.Context, item verifier.Item, bound [32]byte) (map[string][]byte, error) {
	r, err := ec2.ParseRequest(item.Document, bound, s.now())
	if err != nil {
		return nil, err
	}
	header := http.Header{}
	for _, h := range r.Headers() {
		header.Set(h.Name, h.Value)
	}
	got, err := s.calls.send(ctx, request{method: http.MethodPost, host: r.Host(), path: "/", header: header, body: ec2.STSBody})
	if err != nil {
		return nil, err
	}
	if len(got.body) > ec2.MaxAnswer/2 { // refusals are short; the rest of a long one says nothing
		got.body = nil
	}
	part, err := json.Marshal(struct {
		Body   string `json:"body"`
		Kind   string `json:"content_type"`
		Status int    `json:"status"`
	}{string(got.body), got.kind, got.status})
	return map[string][]byte{ec2.PartAnswer: part}, err
}
