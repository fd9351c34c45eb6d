package workloadapi

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/zonebroker/zonebroker/broker/api"
)

// compose makes the message of the present state and says until when it is
// good; the zero time is for good.
type compose[M proto.Message] func(context.Context, api.Workload) (message M, until time.Time, err error)

// stream sends the state and each later one that differs. There is no queue: a
// message is composed after the one before is out, so that a reader who is slow
// gets the newest state and not those in between.
//
// Where the Source fails for a while, what was sent stays good until its own
// end. A denial or the loss of the rule ends the stream, which takes the
// identity back.
func stream[M proto.Message](ctx context.Context, s *Server, method string, make compose[M], send func(M) error) error {
	var (
		sent  bool
		last  M
		until time.Time
		name  string
	)
	for {
		changed := s.source.Changed() // before the state: no change goes unseen
		rule, err := s.authorize(ctx, method)
		if err != nil {
			return err
		}
		message, end, err := make(ctx, rule)
		again := time.Duration(0)
		switch {
		case err == nil:
			if still, err := s.still(ctx, method, rule, changed); err != nil || !still {
				if err != nil {
					return err
				}
				continue
			}
			if !sent {
				s.begun(ctx, method, rule)
			}
			if !sent || !proto.Equal(last, message) {
				if err := send(message); err != nil {
					return err
				}
			}
			sent, last, until, name = true, message, end, rule.Name
		case sent && name == rule.Name && status.Code(err) == codes.Unavailable && (until.IsZero() || s.now().Before(until)):
			again = s.again
		default:
			return err
		}
		if err := s.wait(ctx, changed, until, again); err != nil {
			return err
		}
	}
}

// still reports whether the caller is the same workload as before its identity
// was asked for, which may have taken a while.
func (s *Server) still(ctx context.Context, method string, before api.Workload, changed <-chan struct{}) (bool, error) {
	select {
	case <-changed:
	default:
		return true, nil
	}
	rule, err := s.authorize(ctx, method)
	return rule.Name == before.Name, err
}

// wait returns at the next change, when what was sent ends, or after again where
// that is not 0.
func (s *Server) wait(ctx context.Context, changed <-chan struct{}, until time.Time, again time.Duration) error {
	var wake <-chan time.Time
	d := again
	if !until.IsZero() {
		if left := max(until.Sub(s.now()), time.Millisecond); d == 0 || left < d {
			d = left
		}
	}
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		wake = timer.C
	}
	select {
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	case <-changed:
	case <-wake:
	}
	return nil
}

// begun notes who is served.
func (s *Server) begun(ctx context.Context, method string, rule api.Workload) {
	who, ok := callerOf(ctx)
	if !ok || !s.quiet.take("serving "+rule.Name) {
		return
	}
	s.log.InfoContext(ctx, "workload api: serving", "method", method, "workload", rule.Name, "uid", who.uid, "pid", who.pid)
}
