package broker

import (
	"context"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// SetKeeper gives a broker of a test the owner's hand.
func (b *Broker) SetKeeper(k Keeper) { b.cfg.Keeper = k }

// GroupOf is the retention group of a zone's rows.
func (b *Broker) GroupOf(zone string) int16 { return b.keep(zone) }

// PollRetention is what the job does every minute.
func (b *Broker) PollRetention(ctx context.Context) error { return b.pollRetention(ctx) }

// EvidenceGone says why a part of a record's evidence is not there.
func (b *Broker) EvidenceGone(body ledger.Attestation) error {
	return b.evidenceGone(body, ledger.PartQuote)
}

// GroupsEver says which groups rows may have.
func (b *Broker) GroupsEver(ctx context.Context) (ledger.GroupAt, error) { return b.groupsEver(ctx) }
