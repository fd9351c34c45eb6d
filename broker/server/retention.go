package server

import (
	"net/http"

	"github.com/zonebroker/zonebroker/broker/api"
)

func (s *Server) retention(r *request) (answer, error) {
	v, err := s.cfg.Broker.Retention(r.Context())
	return answer{value: v}, err
}

func (s *Server) applyRetention(r *request) (answer, error) {
	var req api.RetentionRequest
	if err := r.decode(&req); err != nil {
		return answer{}, err
	}
	v, err := s.cfg.Operator.ApplyRetention(r.Context(), r.caller, req)
	return answer{value: v}, err
}

func (s *Server) sweep(r *request) (answer, error) {
	var req api.SweepRequest
	if err := r.decode(&req); err != nil {
		return answer{}, err
	}
	v, err := s.cfg.Operator.Sweep(r.Context(), r.caller, req)
	return answer{value: v}, err
}

func (s *Server) holds(r *request) (answer, error) {
	q, err := newQuery(r, "released")
	if err != nil {
		return answer{}, err
	}
	released := q.get("released")
	if released != "" && released != "true" && released != "false" {
		q.fail("released", "not true or false")
	}
	if q.err != nil {
		return answer{}, q.err
	}
	v, err := s.cfg.Operator.Holds(r.Context(), r.caller, released == "true")
	return answer{value: api.HoldList{Holds: v}}, err
}

func (s *Server) placeHold(r *request) (answer, error) {
	var req api.HoldRequest
	if err := r.decode(&req); err != nil {
		return answer{}, err
	}
	v, err := s.cfg.Operator.PlaceHold(r.Context(), r.caller, req)
	return answer{status: http.StatusCreated, value: v}, err
}

func (s *Server) releaseHold(r *request) (answer, error) {
	id, err := r.id(isUUID)
	if err != nil {
		return answer{}, err
	}
	var req api.RevokeRequest
	if err := r.decode(&req); err != nil {
		return answer{}, err
	}
	v, err := s.cfg.Operator.ReleaseHold(r.Context(), r.caller, id, req)
	return answer{value: v}, err
}

func (s *Server) erase(r *request) (answer, error) {
	id, err := r.id(nodeForm.MatchString)
	if err != nil {
		return answer{}, err
	}
	var req api.EraseRequest
	if err := r.decode(&req); err != nil {
		return answer{}, err
	}
	v, err := s.cfg.Operator.Erase(r.Context(), r.caller, id, req)
	return answer{value: v}, err
}
