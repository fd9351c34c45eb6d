package server

import (
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

var (
	hashForm = regexp.MustCompile(`^[0-9a-f]{64}$`)
	wordForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)
)

const (
	defaultPage = 50
	maxPage     = 500
)

// id returns the path's id if it has one of the forms; what has none can name
// nothing.
func (r *request) id(forms ...func(string) bool) (string, error) {
	id := chi.URLParam(r.Request, "id")
	for _, form := range forms {
		if form(id) {
			return id, nil
		}
	}
	return "", reason.New(reason.RequestNotFound, "no such id")
}

func isUUID(text string) bool {
	id, err := uuid.Parse(text)
	return err == nil && id.String() == text
}

func (s *Server) admit(r *request) (answer, error) {
	var req api.AdmitRequest
	if err := r.decode(&req); err != nil {
		return answer{}, err
	}
	v, err := s.cfg.Operator.AdmitNode(r.Context(), r.caller, req)
	return answer{status: http.StatusCreated, value: v}, err
}

func (s *Server) revokeAdmission(r *request) (answer, error) {
	id, err := r.id(hashForm.MatchString)
	if err != nil {
		return answer{}, err
	}
	var req api.RevokeRequest
	if err := r.decode(&req); err != nil {
		return answer{}, err
	}
	v, err := s.cfg.Operator.RevokeAdmission(r.Context(), r.caller, id, req)
	return answer{value: v}, err
}

func (s *Server) pending(r *request) (answer, error) {
	v, err := s.cfg.Operator.Pending(r.Context(), r.caller)
	return answer{value: api.PendingList{Pending: v}}, err
}

func (s *Server) createToken(r *request) (answer, error) {
	var req api.TokenRequest
	if err := r.decode(&req); err != nil {
		return answer{}, err
	}
	v, err := s.cfg.Operator.CreateToken(r.Context(), r.caller, req)
	return answer{status: http.StatusCreated, value: v}, err
}

func (s *Server) nodes(r *request) (answer, error) {
	q, err := newQuery(r, "cursor", "limit")
	if err != nil {
		return answer{}, err
	}
	cursor, limit := q.form("cursor", nodeForm), q.limit()
	if q.err != nil {
		return answer{}, q.err
	}
	v, next, err := s.cfg.Operator.Nodes(r.Context(), r.caller, cursor, limit)
	return answer{value: api.NodePage{Nodes: v, NextCursor: next}}, err
}

func (s *Server) node(r *request) (answer, error) {
	id, err := r.id(nodeForm.MatchString)
	if err != nil {
		return answer{}, err
	}
	v, err := s.cfg.Operator.Node(r.Context(), r.caller, id)
	return answer{value: v}, err
}

func (s *Server) approve(r *request) (answer, error) {
	id, err := r.id(nodeForm.MatchString, hashForm.MatchString)
	if err != nil {
		return answer{}, err
	}
	var req api.ApproveRequest
	if err := r.decode(&req); err != nil {
		return answer{}, err
	}
	v, err := s.cfg.Operator.Approve(r.Context(), r.caller, id, req)
	return answer{value: v}, err
}

func (s *Server) announce(r *request) (answer, error) {
	id, err := r.id(nodeForm.MatchString)
	if err != nil {
		return answer{}, err
	}
	var req api.AnnounceRequest
	if err := r.decode(&req); err != nil {
		return answer{}, err
	}
	v, err := s.cfg.Operator.Announce(r.Context(), r.caller, id, req)
	return answer{value: v}, err
}

func (s *Server) disable(r *request) (answer, error) {
	id, err := r.id(nodeForm.MatchString)
	if err != nil {
		return answer{}, err
	}
	var req api.DisableRequest
	if err := r.decode(&req); err != nil {
		return answer{}, err
	}
	v, err := s.cfg.Operator.Disable(r.Context(), r.caller, id, req)
	return answer{value: v}, err
}

func (s *Server) reference(r *request) (answer, error) {
	id, err := r.id(nodeForm.MatchString)
	if err != nil {
		return answer{}, err
	}
	q, err := newQuery(r, "attestation")
	if err != nil {
		return answer{}, err
	}
	attestation := q.get("attestation")
	if attestation != "" && !isUUID(attestation) {
		return answer{}, reason.New(reason.RequestMalformed, "attestation: not a UUID")
	}
	v, err := s.cfg.Operator.Reference(r.Context(), r.caller, id, attestation)
	return answer{value: v}, err
}

func (s *Server) history(r *request) (answer, error) {
	q, err := newQuery(r, "node", "zone", "verdict", "type", "reason", "since", "until", "cursor", "limit")
	if err != nil {
		return answer{}, err
	}
	query := api.HistoryQuery{
		Node: q.form("node", nodeForm), Zone: q.form("zone", wordForm), Verdict: q.form("verdict", wordForm),
		Type: q.form("type", wordForm), Reason: q.form("reason", wordForm), Since: q.time("since"), Until: q.time("until"),
		Cursor: q.form("cursor", cursorForm), Limit: q.limit(),
	}
	if q.err != nil {
		return answer{}, q.err
	}
	v, err := s.cfg.Operator.History(r.Context(), r.caller, query)
	return answer{value: v}, err
}

func (s *Server) entry(r *request) (answer, error) {
	id, err := r.id(isUUID)
	if err != nil {
		return answer{}, err
	}
	v, err := s.cfg.Operator.Entry(r.Context(), r.caller, id)
	return answer{value: v}, err
}

// nothing is the body of a request that has no members.
type nothing struct{}

// Validate has nothing to check.
func (nothing) Validate() error { return nil }

func (s *Server) verifyHistory(r *request) (answer, error) {
	if err := r.decode(&nothing{}); err != nil {
		return answer{}, err
	}
	// It reads the whole log. The admin socket may start a second one meanwhile.
	if r.caller.Role != broker.RoleAdmin {
		if !s.verifying.TryAcquire(1) {
			return answer{}, overloaded("verify", "the history is being verified already")
		}
		defer s.verifying.Release(1)
	}
	v, err := s.cfg.Operator.VerifyHistory(r.Context(), r.caller)
	return answer{value: v}, err
}

func (s *Server) health(r *request) (answer, error) {
	return answer{value: s.cfg.Broker.Health(r.Context())}, nil
}

// query reads parameters as strictly as a body: a filter with a typo must not
// become a filter that lets everything through.
type query struct {
	values url.Values
	err    error
}

func newQuery(r *request, known ...string) (*query, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, reason.New(reason.RequestMalformed, "query does not parse")
	}
	q := &query{values: values}
	left := len(values)
	for _, k := range known {
		switch len(values[k]) {
		case 0:
		case 1:
			left--
		default:
			return nil, reason.New(reason.RequestMalformed, k+": stands twice in the query")
		}
	}
	if left > 0 {
		return nil, reason.New(reason.RequestMalformed, "unknown query parameter")
	}
	return q, nil
}

func (q *query) get(name string) string { return q.values.Get(name) }

func (q *query) fail(name, what string) {
	if q.err == nil {
		q.err = reason.New(reason.RequestMalformed, name+": "+what)
	}
}

// require refuses a query without a parameter that it cannot do without.
func (q *query) require(name string) {
	if q.get(name) == "" {
		q.fail(name, "is needed")
	}
}

func (q *query) form(name string, form *regexp.Regexp) string {
	v := q.get(name)
	if v != "" && !form.MatchString(v) {
		q.fail(name, "not of its form")
	}
	return v
}

func (q *query) time(name string) time.Time {
	v := q.get(name)
	if v == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, v)
	if err != nil {
		q.fail(name, "not an RFC 3339 time")
	}
	return t
}

func (q *query) number(name string) int64 {
	v := q.get(name)
	if v == "" {
		return 0
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 0 {
		q.fail(name, "not a number from 0")
	}
	return n
}

func (q *query) flag(name string) bool {
	v := q.get(name)
	if v != "" && v != "true" && v != "false" {
		q.fail(name, "neither true nor false")
	}
	return v == "true"
}

func (q *query) limit() int {
	n := q.number("limit")
	if n == 0 && q.get("limit") == "" {
		return defaultPage
	}
	if n < 1 || n > maxPage {
		q.fail("limit", "not between 1 and 500")
	}
	return int(n)
}
