package server

import (
	"regexp"

	"github.com/go-chi/chi/v5"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

var (
	// serialForm is a serial number as the records write it: hex of an X.509-SVID's,
	// the id of the record of a JWT-SVID.
	serialForm = regexp.MustCompile(`^[0-9a-f][0-9a-f-]{0,63}$`)
	// factForm and valueForm bound what the broker then takes for a fact.
	factForm  = regexp.MustCompile(`^[a-z][a-z0-9_.]{0,62}$`)
	valueForm = regexp.MustCompile(`^[\x20-\x7e]{1,512}$`)
)

func (s *Server) members(r *request) (answer, error) {
	q, err := newQuery(r, "zone", "at", "grace", "cursor", "limit")
	if err != nil {
		return answer{}, err
	}
	query := api.MembersQuery{
		Zone: q.form("zone", wordForm), At: q.time("at"), Grace: q.flag("grace"), Cursor: q.form("cursor", nodeForm), Limit: q.limit(),
	}
	if q.err != nil {
		return answer{}, q.err
	}
	v, err := s.cfg.Operator.Members(r.Context(), r.caller, query)
	return answer{value: v}, err
}

func (s *Server) nodeAt(r *request) (answer, error) {
	id, err := r.id(nodeForm.MatchString)
	if err != nil {
		return answer{}, err
	}
	q, err := newQuery(r, "at")
	if err != nil {
		return answer{}, err
	}
	query := api.NodeAtQuery{Node: id, At: q.time("at")}
	if q.err != nil {
		return answer{}, q.err
	}
	v, err := s.cfg.Operator.NodeAt(r.Context(), r.caller, query)
	return answer{value: v}, err
}

func (s *Server) intervals(r *request) (answer, error) {
	id, err := r.id(nodeForm.MatchString)
	if err != nil {
		return answer{}, err
	}
	q, err := newQuery(r, "since", "until", "limit")
	if err != nil {
		return answer{}, err
	}
	query := api.IntervalsQuery{Node: id, Since: q.time("since"), Until: q.time("until"), Limit: q.limit()}
	if q.err != nil {
		return answer{}, q.err
	}
	v, err := s.cfg.Operator.Intervals(r.Context(), r.caller, query)
	return answer{value: v}, err
}

func (s *Server) unseen(r *request) (answer, error) {
	q, err := newQuery(r, "since", "zone", "silent", "cursor", "limit")
	if err != nil {
		return answer{}, err
	}
	q.require("since")
	query := api.UnseenQuery{
		Since: q.time("since"), Zone: q.form("zone", wordForm), Silent: q.flag("silent"),
		Cursor: q.form("cursor", nodeForm), Limit: q.limit(),
	}
	if q.err != nil {
		return answer{}, q.err
	}
	v, err := s.cfg.Operator.Unseen(r.Context(), r.caller, query)
	return answer{value: v}, err
}

func (s *Server) population(r *request) (answer, error) {
	q, err := newQuery(r, "fact", "value", "zone", "at", "limit")
	if err != nil {
		return answer{}, err
	}
	q.require("fact")
	query := api.PopulationQuery{
		Fact: q.form("fact", factForm), Value: q.form("value", valueForm), Zone: q.form("zone", wordForm), At: q.time("at"), Limit: q.limit(),
	}
	if q.err != nil {
		return answer{}, q.err
	}
	v, err := s.cfg.Operator.Population(r.Context(), r.caller, query)
	return answer{value: v}, err
}

func (s *Server) svids(r *request) (answer, error) {
	q, err := newQuery(r, "node", "zone", "fact", "value", "policy", "evidence", "denied_now", "since", "until", "cursor", "limit")
	if err != nil {
		return answer{}, err
	}
	query := api.SVIDQuery{
		Node: q.form("node", nodeForm), Zone: q.form("zone", wordForm), Fact: q.form("fact", factForm), Value: q.form("value", valueForm),
		Policy: q.number("policy"), Evidence: q.form("evidence", hashForm), DeniedNow: q.flag("denied_now"),
		Since: q.time("since"), Until: q.time("until"), Cursor: q.form("cursor", cursorForm), Limit: q.limit(),
	}
	if q.err != nil {
		return answer{}, q.err
	}
	v, err := s.cfg.Operator.SVIDs(r.Context(), r.caller, query)
	return answer{value: v}, err
}

func (s *Server) findSVID(r *request) (answer, error) {
	serial := chi.URLParam(r.Request, "serial")
	if !serialForm.MatchString(serial) {
		return answer{}, reason.New(reason.RequestNotFound, "no such serial")
	}
	v, err := s.cfg.Operator.FindSVID(r.Context(), r.caller, serial)
	return answer{value: v}, err
}
