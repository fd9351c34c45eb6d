package workloadapi

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// match returns the first rule, in document order, that fits the caller. A rule
// that cannot be decided refuses: passed over, it would let a caller choose a
// later rule by hiding its executable.
func (s *Server) match(who *caller) (api.Workload, error) {
	rules := s.source.Workloads()
	if rules == nil {
		return api.Workload{}, status.Error(codes.PermissionDenied, "this node has no zone at present, so no workload of it has an identity; see: zoneagent status")
	}
	var runs *executable
	for _, rule := range rules {
		if rule.UID == nil && rule.Path == "" {
			continue // would fit everybody; no broker sends it
		}
		if rule.UID != nil && int64(*rule.UID) != int64(who.uid) {
			continue
		}
		if rule.Path == "" {
			return rule, nil
		}
		if runs == nil {
			e := who.executable()
			runs = &e
		}
		switch {
		case runs.err == nil && runs.path == rule.Path:
			return rule, nil
		case runs.err != nil && (runs.path == "" || runs.path == rule.Path):
			return api.Workload{}, status.Errorf(codes.PermissionDenied, "workload %q names an executable: %v", rule.Name, runs.err)
		}
	}
	if runs == nil {
		e := who.executable()
		runs = &e
	}
	caller := fmt.Sprintf("uid %d", who.uid)
	if runs.err == nil {
		caller += fmt.Sprintf(" and path %q", runs.path)
	}
	return api.Workload{}, status.Errorf(codes.PermissionDenied, "no workload of this node's zone matches %s; the workloads of the zone's document say who is served", caller)
}

// authorize is match for the caller of a request.
func (s *Server) authorize(ctx context.Context, method string) (api.Workload, error) {
	who, ok := callerOf(ctx)
	if !ok {
		return api.Workload{}, status.Error(codes.PermissionDenied, "the kernel did not say who is calling")
	}
	rule, err := s.match(who)
	if err != nil && s.quiet.take("denied") {
		s.log.InfoContext(ctx, "workload api: denied", "method", method, "uid", who.uid, "pid", who.pid, "why", status.Convert(err).Message())
	}
	return rule, err
}

// ask calls the Source for a workload. What the broker denies counts against
// that workload: each of those requests goes to the broker, which bounds those
// of the whole node, and one workload must not use up what the others need.
func (s *Server) ask(ctx context.Context, rule api.Workload, get func(context.Context) error) error {
	if !s.refusals.left(rule.Name) {
		return status.Errorf(codes.ResourceExhausted, "too many requests of workload %q were denied; ask again in a minute", rule.Name)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, askTimeout, errors.New("the agent did not answer in time"))
	defer cancel()
	err := get(ctx)
	if err == nil {
		return nil
	}
	code := reason.Of(err)
	if reason.Lookup(code).Class == reason.Deny {
		s.refusals.take(rule.Name)
		text := reason.New(code, reason.Detail(err)).Error()
		if remedy := api.Remedy(code); remedy != "" {
			text += ". " + remedy
		}
		return status.Error(codes.PermissionDenied, text)
	}
	if s.quiet.take("no identity") {
		s.log.WarnContext(ctx, "workload api: no identity", "workload", rule.Name, "error", err)
	}
	if code == reason.Internal {
		return status.Error(codes.Unavailable, "the agent cannot get the identity at present; see: zoneagent status")
	}
	return status.Error(codes.Unavailable, string(code)+": "+reason.Lookup(code).Meaning)
}
