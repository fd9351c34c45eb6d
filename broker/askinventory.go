package broker

import (
	"context"
	"encoding/hex"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
)

const readCoverage = "inventory.coverage"

// defaultFresh is how lately a machine has to have attested to be covered.
const defaultFresh = time.Hour

// ImportInventory replaces the list of machines that there should be, and records
// who did, how many they are, and the digest of the list. It admits nothing.
func (b *Broker) ImportInventory(ctx context.Context, c Caller, req api.InventoryRequest) (api.Inventory, error) {
	if err := req.Validate(); err != nil {
		return api.Inventory{}, err
	}
	list, err := req.Machines()
	if err != nil {
		return api.Inventory{}, err
	}
	rows := make([]ledger.InventoryMachine, len(list))
	for i, m := range list {
		rows[i] = ledger.InventoryMachine{Machine: m.Machine, Model: m.Model, Site: m.Site}
		if raw, err := hex.DecodeString(m.EKSHA256); err == nil && len(raw) == 32 {
			d := [32]byte(raw)
			rows[i].EKHash = &d
		}
	}
	digest := api.InventoryDigest(list)
	g := ledger.Grant{Type: ledger.TypeInventoryImport, By: c.Operator, Subject: digest, Note: req.Note, Machines: int64(len(list))}
	id, pos, err := b.grant(ctx, g, func(cm *ledger.Commit) { cm.Inventory = &ledger.Inventory{Machines: rows} })
	if err != nil {
		return api.Inventory{}, err
	}
	return api.Inventory{ID: id.String(), By: c.Operator, Machines: g.Machines, SHA256: digest, CreatedAt: pos.RecordedAt.UTC()}, nil
}

// Coverage compares the imported inventory with what attests.
func (b *Broker) Coverage(ctx context.Context, c Caller, q api.CoverageQuery) (out api.Coverage, err error) {
	now := b.cfg.Now()
	if err := notAhead("fresh", q.Fresh, now); err != nil {
		return out, err
	}
	if q.Fresh.IsZero() {
		q.Fresh = now.Add(-defaultFresh)
	}
	q.Fresh = q.Fresh.UTC()
	ask, err := b.asks(ctx, c, readCoverage, filterOf(q))
	if err != nil {
		return out, err
	}
	found, asOf, err := ask.Coverage(ctx, ledger.CoverageQuery{Site: q.Site, Fresh: q.Fresh, After: q.Cursor, Limit: pageSize(q.Limit)})
	if err != nil {
		return out, err
	}
	return api.Coverage{
		Since: q.Fresh, Machines: found.Machines, Fresh: found.Fresh, Missing: wireCoverage(found.Missing), Unknown: wireCoverage(found.Unknown),
		NextCursor: found.After, AsOf: wireAsOf(asOf),
	}, nil
}

func wireCoverage(rows []ledger.CoverageRow) []api.CoverageRow {
	out := make([]api.CoverageRow, 0, len(rows))
	for _, r := range rows {
		out = append(out, api.CoverageRow{Machine: r.Machine, Model: r.Model, Site: r.Site, Node: string(r.Node), LastOKAt: r.LastOKAt.UTC()})
	}
	return out
}
