package broker

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// PlaceHold keeps what it names from being dropped or erased, from its commit on.
func (b *Broker) PlaceHold(ctx context.Context, c Caller, req api.HoldRequest) (api.Hold, error) {
	if err := req.Validate(); err != nil {
		return api.Hold{}, err
	}
	now := b.cfg.Now().UTC().Truncate(time.Microsecond)
	id, err := ledger.NewRecordID(now, b.cfg.Rand)
	if err != nil {
		return api.Hold{}, err
	}
	h := ledger.Hold{ID: id, Node: ledger.NodeID(req.Node), Zone: req.Zone, Reason: req.Reason, By: c.Operator, CreatedAt: now}
	if req.Since != nil {
		h.Since = req.Since.UTC().Truncate(time.Microsecond)
	}
	if req.Until != nil {
		h.Until = req.Until.UTC().Truncate(time.Microsecond)
	}
	err = b.appendGrant(ctx, ledger.TypeHoldPlaced, c.Operator, id.String(), req.Reason, func(cm *ledger.Commit) { cm.Hold = &h })
	return wireHold(h), err
}

// ReleaseHold lets go what a hold kept.
func (b *Broker) ReleaseHold(ctx context.Context, c Caller, id string, req api.RevokeRequest) (api.Hold, error) {
	if err := req.Validate(); err != nil {
		return api.Hold{}, err
	}
	u, err := uuid.Parse(id)
	if err != nil {
		return api.Hold{}, reason.New(reason.RequestMalformed, "a hold's id is a UUID")
	}
	h, err := b.cfg.Store.Hold(ctx, u)
	if err != nil {
		return api.Hold{}, err
	}
	if h == nil || h.Released {
		return api.Hold{}, reason.New(reason.RequestNotFound, "no such hold, or it is released already")
	}
	released := *h
	released.Released = true
	err = b.appendGrant(ctx, ledger.TypeHoldReleased, c.Operator, id, req.Note, func(cm *ledger.Commit) { cm.Hold = &released })
	return wireHold(released), err
}

// Holds lists the legal holds in force, released ones too where they are asked
// for, at most 500.
func (b *Broker) Holds(ctx context.Context, _ Caller, released bool) ([]api.Hold, error) {
	rows, err := b.cfg.Store.Holds(ctx, released)
	if err != nil {
		return nil, err
	}
	out := make([]api.Hold, 0, len(rows))
	for _, h := range rows {
		out = append(out, wireHold(h))
	}
	return out, nil
}

func wireHold(h ledger.Hold) api.Hold {
	return api.Hold{
		ID: h.ID.String(), Node: string(h.Node), Zone: h.Zone, Since: h.Since, Until: h.Until, Reason: h.Reason, By: h.By,
		Released: h.Released, CreatedAt: h.CreatedAt,
	}
}
