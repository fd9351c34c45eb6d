package broker

import "context"

// SetKeeper gives a broker of a test the owner's hand.
func (b *Broker) SetKeeper(k Keeper) { b.cfg.Keeper = k }

// GroupOf is the retention group of a zone's rows.
func (b *Broker) GroupOf(zone string) int16 { return b.keep(zone) }

// PollRetention is what the job does every minute.
func (b *Broker) PollRetention(ctx context.Context) error { return b.pollRetention(ctx) }
