package broker_test

import (
	"testing"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
)

// TestInventoryDigest: what an import's record says is what history verify
// computes from the rows.
func TestInventoryDigest(t *testing.T) {
	ek := [32]byte{0xab, 31: 1}
	wire := []api.InventoryMachine{{Machine: "B", Model: `a "b", c`, Site: " x"}, {Machine: "a", EKSHA256: "ab" + "000000000000000000000000000000000000000000000000000000000000" + "01"}}
	rows := ledger.Inventory{Machines: []ledger.InventoryMachine{{Machine: "a", EKHash: &ek}, {Machine: "B", Model: `a "b", c`, Site: " x"}}}
	if got, want := rows.Digest(), api.InventoryDigest(wire); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
