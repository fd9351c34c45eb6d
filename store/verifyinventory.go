package store

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// checkInventory compares the list of machines that there should be with the
// newest record of an import: a machine that is taken from it is missed by no
// coverage.
func (v *verification) checkInventory(ctx context.Context) error {
	rows, err := v.tx.Query(ctx, `SELECT machine, model, site, ek_hash, import FROM inventory ORDER BY machine`)
	if err != nil {
		return err
	}
	var list ledger.Inventory
	var m ledger.InventoryMachine
	var ek []byte
	var id uuid.UUID
	foreign := false
	g := v.facts.imported
	_, err = pgx.ForEachRow(rows, []any{&m.Machine, &m.Model, &m.Site, &ek, &id}, func() error {
		if m.EKHash = nil; len(ek) == 32 {
			d := [32]byte(ek)
			m.EKHash = &d
		}
		foreign = foreign || id != g.ID
		list.Machines = append(list.Machines, m)
		return nil
	})
	switch {
	case err != nil:
		return err
	case g.ID == uuid.Nil && len(list.Machines) > 0:
		v.problem("inventory: no record of the log imports it")
	case g.ID != uuid.Nil && (foreign || list.Digest() != g.Subject):
		v.problem("inventory: it is not the list that record %s imported", g.ID)
	}
	return nil
}
