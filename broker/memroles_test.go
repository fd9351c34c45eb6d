package broker_test

import (
	"context"
	"time"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// The roles of memStore. Its lock is held where nothing else is said.

func (m *memStore) checkOperator(o *ledger.Operator) error {
	if o == nil {
		return nil
	}
	for _, other := range m.operators {
		switch {
		case o.Revoked && other.ID == o.ID:
			if other.Revoked {
				return reason.New(reason.RequestNotFound, "revoked already")
			}
			return nil
		case !o.Revoked && (other.SPKISHA256 == o.SPKISHA256 || other.Name == o.Name && !other.Revoked):
			return reason.New(reason.RequestMalformed, "taken")
		}
	}
	if o.Revoked {
		return reason.New(reason.RequestNotFound, "no such operator")
	}
	return nil
}

func (m *memStore) putOperator(o ledger.Operator) {
	for i := range m.operators {
		if m.operators[i].ID == o.ID {
			m.operators[i] = o
			return
		}
	}
	m.operators = append(m.operators, o)
}

// Operators takes the lock itself.
func (m *memStore) Operators(ctx context.Context, since time.Time, limit int) ([]ledger.Operator, error) {
	if err := m.enter(ctx, "Operators"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []ledger.Operator
	for _, o := range m.operators {
		if o.ExpiresAt.After(since) && len(out) < limit {
			out = append(out, o)
		}
	}
	return out, nil
}

// OperatorByName takes the lock itself.
func (m *memStore) OperatorByName(ctx context.Context, name string) (*ledger.Operator, error) {
	if err := m.enter(ctx, "OperatorByName"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range m.operators {
		if o.Name == name && !o.Revoked {
			return &o, nil
		}
	}
	return nil, nil
}
