package store

import (
	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// queueInventory replaces the list of machines that there should be, in the
// transaction of the record that says so: readers see the old list or the new
// one, and the log says which. The transaction has the turn of all brokers
// (queueTurn): what another one imported meanwhile is seen, and goes.
func queueInventory(b *pgx.Batch, c *ledger.Commit) {
	if c.Inventory == nil {
		return
	}
	list := c.Inventory.Machines
	machines, models, sites, eks := make([]string, len(list)), make([]string, len(list)), make([]string, len(list)), make([][]byte, len(list))
	for i, m := range list {
		machines[i], models[i], sites[i] = m.Machine, m.Model, m.Site
		if m.EKHash != nil {
			eks[i] = m.EKHash[:]
		}
	}
	const add = `INSERT INTO inventory (machine, model, site, ek_hash, import)
		SELECT machine, model, site, ek_hash, $5 FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[]) AS list (machine, model, site, ek_hash)`
	b.Queue(`DELETE FROM inventory`)
	b.Queue(add, machines, models, sites, eks, c.Record.ID)
}
