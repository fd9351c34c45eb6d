package server

import (
	"cmp"
	"context"
	"errors"
	"math"
	"mime"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// request is what a handler gets: a caller that is known as far as it can be,
// a route, and decode for the body.
type request struct {
	*http.Request
	caller Caller
	route  route
	lane   *lane
	body   *meteredBody
	raw    []byte // the whole body, once it is read
	rc     *http.ResponseController
	limit  time.Duration // for the body to arrive
	drop   bool          // the connection ends with the answer: it should not have begun
}

// answer is a success. Value is encoded as JSON; otherwise Raw goes out as Type.
type answer struct {
	status int // 0 is 200
	value  any
	raw    []byte
	typ    string
	header map[string]string
}

// outcome is what the log and the metrics say of a request.
type outcome struct {
	status int
	code   reason.Code // "" for a success
	err    error
}

// adapt makes an http.Handler of a route: the one place that limits, renders,
// logs and counts.
func (s *Server) adapt(rt route, on listener) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, hr *http.Request) {
		start := time.Now()
		ctx, cancel := context.WithTimeout(hr.Context(), rt.timeout)
		defer cancel()
		r := &request{
			Request: hr.WithContext(ctx), route: rt, rc: http.NewResponseController(w), limit: s.cfg.Timeouts.Body,
			caller: Caller{RequestID: requestID()},
		}
		if host, _, err := net.SplitHostPort(hr.RemoteAddr); err == nil {
			r.caller.RemoteIP = host
		}
		// A reader that stops reading must not hold the answer for ever; the time of
		// the route is for those whom the route is for.
		_ = r.rc.SetWriteDeadline(start.Add(quick + s.cfg.Timeouts.Body))
		a, err := s.serve(r, on)
		out := s.write(w, r, a, err)
		s.metrics.seconds.WithLabelValues(rt.path).Observe(time.Since(start).Seconds())
		s.report(r, out, time.Since(start))
	})
}

func requestID() string {
	if id, err := uuid.NewV7(); err == nil {
		return id.String()
	}
	return uuid.Nil.String() // no randomness: the log line still says so
}

// serve goes from cheap to dear: who asks, the rate, the slot, the form of the
// request, its body, and only then a turn at the cores: a turn that waited for
// bytes could be held by whoever sends them slowly.
func (s *Server) serve(r *request, on listener) (a answer, err error) {
	if err := s.identify(r, on); err != nil {
		return answer{}, err
	}
	_ = r.rc.SetWriteDeadline(time.Now().Add(r.route.timeout + s.cfg.Timeouts.Body))
	if !r.lane.requests.TryAcquire(1) {
		return answer{}, overloaded("requests_"+r.lane.name, "too many requests in work")
	}
	s.metrics.inWork.WithLabelValues(r.lane.name).Inc()
	r.body = &meteredBody{r: r.Request.Body, lane: r.lane}
	defer func() {
		s.metrics.inWork.WithLabelValues(r.lane.name).Dec()
		r.lane.requests.Release(1)
		r.body.release()
	}()
	if err := checkForm(r); err != nil {
		return answer{}, err
	}
	defer func() {
		if v := recover(); v != nil {
			s.metrics.panics.Inc()
			s.log.ErrorContext(r.Context(), "handler panicked", "request_id", r.caller.RequestID,
				"route", r.route.path, "panic", clip(sprint(v)), "stack", string(debug.Stack()))
			a, err = answer{}, reason.New(reason.Internal, "")
		}
	}()
	if err := r.readBody(); err != nil {
		return answer{}, err
	}
	done, err := s.turn(r)
	if err != nil {
		return answer{}, err
	}
	r.caller.Waiting = sync.OnceFunc(done)
	defer r.caller.Waiting()
	return r.route.handle(s, r)
}

// turn waits for a turn where the route takes cores: documents are read from
// memory, and operators are few.
func (s *Server) turn(r *request) (done func(), err error) {
	u, stranger := nodeBegins, r.caller.NodeID == ""
	switch r.route.rate {
	case rateBegin:
		if stranger {
			u = strangerBegins
		}
	case rateAttest:
		u = nodeAttests
		if stranger {
			u = strangerAttests
		}
	case rateIssue:
		u = nodeIssues
	default:
		return func() {}, nil
	}
	began := time.Now()
	done, err = s.lanes.turns.take(r.Context(), u)
	s.metrics.waited.Observe(time.Since(began).Seconds())
	return done, err
}

// identify finds out who asks and takes a token of the rate that fits.
func (s *Server) identify(r *request, on listener) error {
	if on == onAdmin {
		r.lane = s.lanes.admin
		uid := peerUID(r.Context())
		if !s.mayOperate(uid) {
			return reason.New(reason.AuthForbidden, "only root and the broker's own user may use the admin socket")
		}
		r.caller.Operator, r.caller.Role = "uid:"+strconv.FormatInt(uid, 10), broker.RoleAdmin
		return nil
	}
	r.lane = s.lanes.stranger
	now, ip := s.cfg.Now(), addressOf(r.RemoteAddr)
	p, err := s.verifyPeer(r.Request, now)
	if err != nil {
		// Costs the address as much as a stranger's request; its connection ends,
		// so that the next try pays for a handshake too.
		r.drop = true
		if limit := s.lanes.ask(rateAttest, peer{}, ip, now); limit != nil {
			return limit
		}
		return err
	}
	if p != (peer{}) {
		s.arrivals.know(ip, cmp.Or(p.node, p.operator))
	}
	switch {
	case p.node != "":
		r.lane = s.lanes.node
		r.caller.NodeID, r.caller.SPIFFEID, r.caller.Certificate = p.node, p.id.String(), p.cert
	case p.operator != "":
		r.lane = s.lanes.role
		r.caller.Operator, r.caller.Role = "operator:"+p.operator, p.role
	}
	if err := s.lanes.ask(r.route.rate, p, ip, now); err != nil {
		// A stranger's next try pays for its arrival first: else refusals were free.
		r.drop = p == (peer{})
		return err
	}
	return authorize(r.caller, r.route.roles)
}

// checkForm refuses what the contract does not have before the body is read.
func checkForm(r *request) error {
	if r.route.body == 0 {
		if r.ContentLength > 0 && r.route.method != "" {
			return reason.New(reason.RequestMalformed, "the route takes no body")
		}
		return nil
	}
	typ, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if cs := params["charset"]; err != nil || typ != "application/json" || cs != "" && cs != "utf-8" {
		return reason.New(reason.RequestMalformed, "Content-Type is not application/json")
	}
	if r.Header.Get("Content-Encoding") != "" {
		return reason.New(reason.RequestMalformed, "Content-Encoding is not supported")
	}
	if r.ContentLength > r.route.body {
		return reason.Newf(reason.RequestTooLarge, "the body is larger than %d bytes", r.route.body)
	}
	return nil
}

// readBody reads the body where the route takes one. The deadline is for the
// body alone: net/http lifts it once the body is read.
func (r *request) readBody() error {
	if r.route.body == 0 {
		return nil
	}
	_ = r.rc.SetReadDeadline(time.Now().Add(r.limit))
	raw, err := api.ReadBody(r.body, r.route.body)
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		return overloaded("slow_body", "the body did not arrive in time")
	}
	r.raw = raw
	return err
}

// decode makes v of the body and validates it.
func (r *request) decode(v interface{ Validate() error }) error {
	if err := api.DecodeBytes(r.raw, v); err != nil {
		return err
	}
	return v.Validate()
}

// write renders the answer or the refusal.
func (s *Server) write(w http.ResponseWriter, r *request, a answer, err error) outcome {
	h := w.Header()
	h.Set("X-Request-Id", r.caller.RequestID)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	if err == nil && a.value != nil {
		a.typ = "application/json"
		if a.raw, err = api.Encode(a.value); err != nil {
			err = reason.Wrap(reason.Internal, "", err)
		}
	}
	if err != nil {
		return s.refuse(w, r, err)
	}
	for k, v := range a.header {
		h.Set(k, v)
	}
	if a.status == 0 {
		a.status = http.StatusOK
	}
	send(w, a.status, a.typ, a.raw)
	return outcome{status: a.status}
}

func (s *Server) refuse(w http.ResponseWriter, r *request, err error) outcome {
	err = timedOut(r, err)
	p := api.NewProblem(err, r.caller.RequestID)
	if l, ok := errors.AsType[*limited](err); ok {
		s.metrics.limited.WithLabelValues(l.limit).Inc()
	}
	if seconds := retryAfter(err, p.Status); seconds > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(seconds))
	}
	if r.drop {
		w.Header().Set("Connection", "close")
	}
	body, eerr := api.Encode(p)
	if eerr != nil {
		body = nil // cannot happen: a Problem holds strings
	}
	send(w, p.Status, api.ProblemType, body)
	return outcome{status: p.Status, code: reason.Code(p.Code), err: err}
}

// timedOut gives a handler's bare deadline its code; everything else stays.
func timedOut(r *request, err error) error {
	if _, ok := errors.AsType[*reason.Error](err); !ok && errors.Is(err, context.DeadlineExceeded) && r.Context().Err() != nil {
		return overloaded("timeout", "the request took too long")
	}
	return err
}

// retryAfter is in whole seconds, 0 for none. Every 429 and 503 has one.
func retryAfter(err error, status int) int {
	if l, ok := errors.AsType[*limited](err); ok {
		return int(math.Ceil(math.Max(1, l.after.Seconds())))
	}
	switch {
	case reason.Of(err) == reason.NodeAdmissionPending:
		return 30
	case status == http.StatusServiceUnavailable, status == http.StatusTooManyRequests:
		return 2
	}
	return 0
}

func send(w http.ResponseWriter, status int, typ string, body []byte) {
	if typ != "" {
		w.Header().Set("Content-Type", typ)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client is gone; nobody is left to tell
}
