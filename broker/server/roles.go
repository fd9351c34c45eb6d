package server

import (
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func (s *Server) operators(r *request) (answer, error) {
	v, err := s.cfg.Operator.Operators(r.Context(), r.caller)
	return answer{value: api.OperatorList{Operators: v}}, err
}

func (s *Server) addOperator(r *request) (answer, error) {
	var req api.OperatorRequest
	if err := r.decode(&req); err != nil {
		return answer{}, err
	}
	v, err := s.cfg.Operator.AddOperator(r.Context(), r.caller, req)
	return answer{status: http.StatusCreated, value: v}, err
}

func (s *Server) revokeOperator(r *request) (answer, error) {
	name := chi.URLParam(r.Request, "name")
	if !wordForm.MatchString(name) {
		return answer{}, reason.New(reason.RequestNotFound, "no such operator")
	}
	var req api.RevokeRequest
	if err := r.decode(&req); err != nil {
		return answer{}, err
	}
	v, err := s.cfg.Operator.RevokeOperator(r.Context(), r.caller, name, req)
	return answer{value: v}, err
}
