package broker

import (
	"context"
	"maps"
	"sync"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// admissions mirrors the inventory in memory: an EK that is not in it costs one
// look-up here and at most one read, before any RSA or ECC.
type admissions struct {
	mu     sync.RWMutex // guards all fields; never held over I/O
	byEK   map[[32]byte]*ledger.Admission
	byID   map[uuid.UUID]*ledger.Admission
	cursor ledger.Places // never changed, only replaced
}

const admissionPage = 1000

func (b *Broker) pollAdmissions(ctx context.Context) error {
	for {
		b.admissions.mu.RLock()
		cursor := b.admissions.cursor
		b.admissions.mu.RUnlock()
		page, next, err := b.cfg.Store.AdmissionsSince(ctx, cursor, admissionPage)
		if err != nil {
			return err
		}
		b.admissions.put(page, next)
		if len(page) < admissionPage {
			return nil
		}
	}
}

func (a *admissions) put(page []ledger.Admission, cursor ledger.Places) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byEK == nil {
		a.byEK, a.byID = make(map[[32]byte]*ledger.Admission), make(map[uuid.UUID]*ledger.Admission)
	}
	for i := range page {
		a.byID[page[i].ID] = &page[i]
		for _, ek := range page[i].EKHashes {
			a.byEK[ek] = &page[i]
		}
	}
	// Another reading may have come further meanwhile.
	next := maps.Clone(cursor)
	for log, at := range a.cursor {
		next[log] = max(next[log], at)
	}
	a.cursor = next
}

func (a *admissions) cached(ek [32]byte) *ledger.Admission {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.byEK[ek]
}

// ended reports whether what admitted a node was revoked. An EK or a machine is
// looked up by its own hash; an account, project or key has another one than the
// node, so that the node's row says which it was. An account that was admitted anew
// has another admission, which the node gets with its next attestation.
func (a *admissions) ended(n ledger.Node) bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	own, owner := a.byEK[n.RootHash], a.byID[n.Admission]
	return own != nil && own.Revoked || n.AdmittedBy == ledger.AdmitOwner && owner != nil && owner.Revoked
}

// admission returns the admission of an EK, nil where there is none. A miss is
// one read: the machine may have been admitted within the last second.
func (b *Broker) admission(ctx context.Context, ek [32]byte) (*ledger.Admission, error) {
	if a := b.admissions.cached(ek); a != nil {
		return a, nil
	}
	return b.cfg.Store.AdmissionByEK(ctx, ek)
}

// pendingQueue collects machines that asked without being admitted. It is
// bounded, and written in the background: a stranger's request writes nothing.
type pendingQueue struct {
	mu sync.Mutex
	by map[[32]byte]ledger.Pending
}

// add reports whether there was room.
func (q *pendingQueue) add(p ledger.Pending) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if old, ok := q.by[p.EKHash]; ok {
		p.FirstSeen = old.FirstSeen
	} else if len(q.by) >= pendingCap {
		return false
	}
	if q.by == nil {
		q.by = make(map[[32]byte]ledger.Pending)
	}
	q.by[p.EKHash] = p
	return true
}

func (q *pendingQueue) take() []ledger.Pending {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := make([]ledger.Pending, 0, len(q.by))
	for _, p := range q.by {
		out = append(out, p)
	}
	q.by = nil
	return out
}

func (b *Broker) flushPending(ctx context.Context) error {
	ps := b.pending.take()
	if len(ps) == 0 {
		return nil
	}
	return b.cfg.Store.AddPending(ctx, ps)
}
