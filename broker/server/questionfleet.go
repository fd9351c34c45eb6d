package server

import (
	"regexp"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
)

// siteForm bounds names that people gave: sites, models, groups.
var siteForm = regexp.MustCompile(`^[^\x00-\x1f\x7f]{1,128}$`)

func (s *Server) detections(r *request) (answer, error) {
	q, err := newQuery(r, "node", "kind", "zone", "since", "until", "cursor", "limit")
	if err != nil {
		return answer{}, err
	}
	query := api.DetectionQuery{
		Node: q.form("node", nodeForm), Kind: q.form("kind", wordForm), Zone: q.form("zone", wordForm),
		Since: q.time("since"), Until: q.time("until"), Cursor: q.form("cursor", cursorForm), Limit: q.limit(),
	}
	if q.err != nil {
		return answer{}, q.err
	}
	v, err := s.cfg.Operator.Detections(r.Context(), r.caller, query)
	return answer{value: v}, err
}

// span reads what questions over a whole time have: a zone and its bounds.
func (r *request) span(known ...string) (zone string, since, until time.Time, err error) {
	q, err := newQuery(r, known...)
	if err != nil {
		return "", since, until, err
	}
	zone, since, until = q.form("zone", wordForm), q.time("since"), q.time("until")
	return zone, since, until, q.err
}

func (s *Server) detectionSummary(r *request) (answer, error) {
	zone, since, until, err := r.span("zone", "since", "until")
	if err != nil {
		return answer{}, err
	}
	v, err := s.cfg.Operator.DetectionSummary(r.Context(), r.caller, api.SummaryQuery{Zone: zone, Since: since, Until: until})
	return answer{value: v}, err
}

func (s *Server) rates(r *request) (answer, error) {
	zone, since, until, err := r.span("zone", "since", "until")
	if err != nil {
		return answer{}, err
	}
	v, err := s.cfg.Operator.Rates(r.Context(), r.caller, api.RateQuery{Zone: zone, Since: since, Until: until})
	return answer{value: v}, err
}

func (s *Server) crossCheck(r *request) (answer, error) {
	_, since, until, err := r.span("since", "until")
	if err != nil {
		return answer{}, err
	}
	v, err := s.cfg.Operator.CrossCheck(r.Context(), r.caller, api.CrossCheckQuery{Since: since, Until: until})
	return answer{value: v}, err
}

func (s *Server) baseline(r *request) (answer, error) {
	q, err := newQuery(r, "by", "name", "zone", "cursor", "limit")
	if err != nil {
		return answer{}, err
	}
	q.require("by")
	query := api.BaselineQuery{
		By: q.form("by", wordForm), Name: q.form("name", siteForm), Zone: q.form("zone", wordForm),
		Cursor: q.form("cursor", nodeForm), Limit: q.limit(),
	}
	if q.err != nil {
		return answer{}, q.err
	}
	v, err := s.cfg.Operator.Baseline(r.Context(), r.caller, query)
	return answer{value: v}, err
}

func (s *Server) importInventory(r *request) (answer, error) {
	var req api.InventoryRequest
	if err := r.decode(&req); err != nil {
		return answer{}, err
	}
	v, err := s.cfg.Operator.ImportInventory(r.Context(), r.caller, req)
	return answer{value: v}, err
}

func (s *Server) coverage(r *request) (answer, error) {
	q, err := newQuery(r, "site", "fresh", "cursor", "limit")
	if err != nil {
		return answer{}, err
	}
	query := api.CoverageQuery{
		Site: q.form("site", siteForm), Fresh: q.time("fresh"), Cursor: q.form("cursor", cursorForm), Limit: q.limit(),
	}
	if q.err != nil {
		return answer{}, q.err
	}
	v, err := s.cfg.Operator.Coverage(r.Context(), r.caller, query)
	return answer{value: v}, err
}
