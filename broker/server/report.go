package server

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// maxLogged bounds one text in the log.
const maxLogged = 512

// report counts a request and writes its line. Whoever comes over TCP decides
// how many requests there are, so refusals, and faults, are sampled: the metrics
// have the numbers.
func (s *Server) report(r *request, out outcome, took time.Duration) {
	code := string(out.code)
	if code == "" {
		code = "ok"
	}
	s.metrics.requests.WithLabelValues(r.route.path, code).Inc()
	level := slog.LevelDebug
	switch fault := reason.Lookup(out.code).Class == reason.Fault; {
	case out.code == "" && r.caller.Operator == "":
	case out.code == "":
		level = slog.LevelInfo
	default:
		level = slog.LevelInfo
		if fault {
			level = slog.LevelError
		}
		// The admin socket alone may write as many lines as it likes: a role
		// certificate may be stolen.
		if r.caller.Role != broker.RoleAdmin && !s.mayLog(fault) {
			return
		}
	}
	attrs := []slog.Attr{
		slog.String("request_id", r.caller.RequestID),
		slog.String("route", r.route.path),
		slog.Int("status", out.status),
		slog.String("code", code),
		slog.Duration("took", took.Round(time.Microsecond)),
	}
	for _, a := range []slog.Attr{
		slog.String("remote_ip", r.caller.RemoteIP), slog.String("node", r.caller.NodeID), slog.String("operator", r.caller.Operator),
	} {
		if a.Value.String() != "" {
			attrs = append(attrs, a)
		}
	}
	if out.err != nil {
		attrs = append(attrs, slog.String("error", clip(causes(out.err))))
	}
	s.log.LogAttrs(r.Context(), level, "request", attrs...)
}

func (s *Server) mayLog(fault bool) bool {
	_, ok := s.logRate.take(fault, s.cfg.Now())
	if !ok {
		s.metrics.unlogged.Inc()
	}
	return ok
}

// causes writes an error with the private causes that its text leaves out: this
// goes to the log and nowhere else.
func causes(err error) string {
	text := err.Error()
	for e := err; e != nil; e = errors.Unwrap(e) {
		if r, ok := e.(*reason.Error); ok && r.Unwrap() != nil {
			text += ": " + r.Unwrap().Error()
		}
	}
	return text
}

// clip makes a text fit for one line of a log, whatever handler writes it.
func clip(text string) string {
	if len(text) > maxLogged {
		text = strings.ToValidUTF8(text[:maxLogged], "") + "..."
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0x2028 || r == 0x2029 {
			return ' '
		}
		return r
	}, text)
}

func sprint(v any) string { return fmt.Sprint(v) }
