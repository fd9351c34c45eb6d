package agent

import (
	"context"
	"encoding/hex"
	"errors"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/client"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Bounds of the single ways back. A refusal that comes again after its way was
// taken is the answer.
const (
	maxSpent = 3               // fresh challenges after challenge.spent
	maxWaits = 3               // waits for a busy broker, of an agent that attests once
	maxWait  = 5 * time.Second // who is asked to wait for longer is told so, and does not come earlier
)

// waysBack says after a refusal whether there is another way, as design section
// 4 lists them: a lost or spent challenge, an AK that the broker no longer
// knows, a log that it wants to see again, an SVID that it no longer takes.
type waysBack struct {
	run          *run
	spent, waits int
}

func newWaysBack(r *run) *waysBack { return &waysBack{run: r} }

// next takes the way back for err, or returns err where there is none. The
// challenge is one that came with the refusal.
func (w *waysBack) next(ctx context.Context, err error) (*api.Challenge, error) {
	r := w.run
	if ctx.Err() != nil {
		return nil, err
	}
	if _, ok := errors.AsType[*client.UnreachableError](err); ok && r.fastLane() {
		// TLS 1.3 tells a client only afterwards that its certificate was refused:
		// its CA may have left the bundle. The AK authenticates the node, not it.
		w.leaveFastLane("the SVID was not taken as client certificate")
		return nil, nil
	}
	refused, ok := errors.AsType[*client.RefusedError](err)
	if !ok {
		return nil, err
	}
	switch code := refused.Code; {
	case code == reason.AuthInvalid && r.fastLane():
		w.leaveFastLane("the SVID was not taken as client certificate")
	case isSpent(code) && w.spent < maxSpent:
		w.spent++
		r.cfg.Progress("the challenge is spent; taking a fresh one")
		return refused.Challenge, nil
	case unknownAK(code) && !r.enrol:
		r.cfg.Progress("the broker says " + string(code) + "; enrolling again")
		r.enrol = true
	case wantsLog(code) && !r.lastLog && !r.withLog:
		r.cfg.Progress("the broker asks for the event log")
		r.withLog = true
	case code == reason.IMAOffset && r.lastFirst && !r.wholeList:
		r.cfg.Progress("the broker asks for the whole measurement list")
		r.wholeList = true
	case isBusy(code) && w.waits < r.waits && refused.RetryAfter <= maxWait:
		w.waits++
		return nil, w.wait(ctx, refused)
	default:
		if code == reason.NodeNotAdmitted || code == reason.NodeAdmissionPending {
			r.tellWhoThisIs()
		}
		return nil, err
	}
	return nil, nil
}

// tellWhoThisIs: a stranger gets no details; what an operator needs is known here.
func (r *run) tellWhoThisIs() {
	switch {
	case r.format == api.FormatTPM2:
		r.cfg.Progress("the EK hash of this machine is " + r.state.EKHash)
	case r.agent != nil:
		r.cfg.Progress("this host is named by " + r.format + "; its agent key is " + hex.EncodeToString(r.ak.Name[2:]))
	default:
		r.cfg.Progress("this host is named by " + r.format)
	}
}

func (w *waysBack) leaveFastLane(why string) {
	w.run.present.Store(nil)
	w.run.broker.Close()
	w.run.cfg.Progress(why + "; going on without it")
}

// wait gives a busy broker the time it asked for.
func (w *waysBack) wait(ctx context.Context, refused *client.RefusedError) error {
	pause := max(refused.RetryAfter, 200*time.Millisecond)
	w.run.cfg.Progress("the broker is busy (" + string(refused.Code) + "); waiting " + pause.String())
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return refused
	}
}

func isSpent(c reason.Code) bool {
	return c == reason.ChallengeSpent || c == reason.ChallengeExpired || c == reason.ChallengeInvalid
}

// unknownAK lists the answers to a renewal after which only EK and AK together
// can tell who this is: the broker does not know the AK (it was set up anew, the
// node was removed), or the TPM was cleared and its counters went back.
func unknownAK(c reason.Code) bool {
	return c == reason.NodeNotAdmitted || c == reason.RequestNotFound || c == reason.TPM2RolledBack
}

func wantsLog(c reason.Code) bool {
	return c == reason.EventLogMissing || c == reason.TPM2PCRUnexplained
}

func isBusy(c reason.Code) bool {
	return c == reason.RequestOverloaded || c == reason.RequestRateLimited
}
