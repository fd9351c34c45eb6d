package broker_test

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// What memStore keeps of retention. Its lock is held where put is called.

type memRetained struct {
	retention []ledger.Retention
	holds     []ledger.Hold
	erasures  map[ledger.NodeID]ledger.Erasure
}

func (m *memStore) checkRetention(c ledger.Commit) error {
	if r := c.Retention; r != nil && r.Version != int64(len(m.retained.retention))+1 {
		return reason.New(reason.RequestOverloaded, "taken")
	}
	return nil
}

func (m *memStore) putRetention(c ledger.Commit) {
	if c.Retention != nil {
		m.retained.retention = append(m.retained.retention, *c.Retention)
	}
	if h := c.Hold; h != nil && h.Released {
		for i := range m.retained.holds {
			m.retained.holds[i].Released = m.retained.holds[i].Released || m.retained.holds[i].ID == h.ID
		}
	} else if h != nil {
		m.retained.holds = append(m.retained.holds, *h)
	}
	if c.Erasure != nil {
		if m.retained.erasures == nil {
			m.retained.erasures = map[ledger.NodeID]ledger.Erasure{}
		}
		m.retained.erasures[c.Erasure.Node] = *c.Erasure
	}
}

// Retention takes the lock itself, as those below do.
func (m *memStore) Retention(ctx context.Context) (*ledger.Retention, error) {
	if err := m.enter(ctx, "Retention"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(m.retained.retention); n > 0 {
		r := m.retained.retention[n-1]
		return &r, nil
	}
	return nil, nil
}

func (m *memStore) Retentions(ctx context.Context) ([]ledger.Retention, error) {
	if err := m.enter(ctx, "Retentions"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.retained.retention), nil
}

func (m *memStore) Holds(ctx context.Context, released bool) ([]ledger.Hold, error) {
	if err := m.enter(ctx, "Holds"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []ledger.Hold
	for _, h := range m.retained.holds {
		if released || !h.Released {
			out = append(out, h)
		}
	}
	return out, nil
}

func (m *memStore) Hold(ctx context.Context, id uuid.UUID) (*ledger.Hold, error) {
	all, err := m.Holds(ctx, true)
	for _, h := range all {
		if h.ID == id {
			return &h, err
		}
	}
	return nil, err
}

func (m *memStore) Erasure(ctx context.Context, node ledger.NodeID) (*ledger.Erasure, error) {
	if err := m.enter(ctx, "Erasure"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.retained.erasures[node]; ok {
		return &e, nil
	}
	return nil, nil
}

func (m *memStore) PartitionsAhead(ctx context.Context, _ time.Time) (int, error) {
	return m.weeksAhead, m.enter(ctx, "PartitionsAhead")
}

func (m *memStore) Prove(ctx context.Context, _, _ int64, _ []int64) (ledger.LogProof, error) {
	return ledger.LogProof{}, m.enter(ctx, "Prove")
}
