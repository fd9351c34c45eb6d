package server

import (
	"regexp"

	"github.com/zonebroker/zonebroker/broker/api"
)

// cursorForm is what cursors of lists of the history are written with; the
// longest has a log's name of 255 bytes in it.
var cursorForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,366}$`)

func (s *Server) explanation(r *request) (answer, error) {
	id, err := r.id(isUUID)
	if err != nil {
		return answer{}, err
	}
	v, err := s.cfg.Operator.Explain(r.Context(), r.caller, id)
	return answer{value: v}, err
}

func (s *Server) evidence(r *request) (answer, error) {
	id, err := r.id(isUUID)
	if err != nil {
		return answer{}, err
	}
	v, err := s.cfg.Operator.ExportEvidence(r.Context(), r.caller, id)
	return answer{value: v}, err
}

func (s *Server) drift(r *request) (answer, error) {
	q, err := newQuery(r, "node", "kind", "zone", "since", "until", "cursor", "limit")
	if err != nil {
		return answer{}, err
	}
	query := api.DriftQuery{
		Node: q.form("node", nodeForm), Kind: q.form("kind", wordForm), Zone: q.form("zone", wordForm),
		Since: q.time("since"), Until: q.time("until"), Cursor: q.form("cursor", cursorForm), Limit: q.limit(),
	}
	if q.err != nil {
		return answer{}, q.err
	}
	v, err := s.cfg.Operator.Drift(r.Context(), r.caller, query)
	return answer{value: v}, err
}

func (s *Server) timeline(r *request) (answer, error) {
	id, err := r.id(nodeForm.MatchString)
	if err != nil {
		return answer{}, err
	}
	q, err := newQuery(r, "since", "until", "cursor", "limit")
	if err != nil {
		return answer{}, err
	}
	query := api.TimelineQuery{
		Node: id, Since: q.time("since"), Until: q.time("until"), Cursor: q.form("cursor", cursorForm), Limit: q.limit(),
	}
	if q.err != nil {
		return answer{}, q.err
	}
	v, err := s.cfg.Operator.Timeline(r.Context(), r.caller, query)
	return answer{value: v}, err
}
