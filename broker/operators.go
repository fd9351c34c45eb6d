package broker

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

const (
	// maxRoles bounds the roles that have not ended, revoked ones included: each
	// replica reads all of them every second.
	maxRoles = 1000
	// rolesStale is how old the table in memory may be. Past it a revocation may
	// have been missed, and no role certificate is believed any more.
	rolesStale = 10 * time.Second
	// rolesListed is how long an ended role stays on the list of operators.
	rolesListed = 90 * 24 * time.Hour
)

// roles is the table of role certificates in memory.
type roles struct {
	mu    sync.RWMutex
	byKey map[[32]byte]ledger.Operator // by mu
	read  time.Time                    // by mu: when byKey was read
	asked int64                        // by mu: number of the last read that began
	shown int64                        // by mu: number of the read that byKey is from

	// revoked is every role that this replica has seen revoked, until it ends. The row
	// from before still has a good HMAC: who puts it back into the database gets
	// nothing from a broker that saw it go. By mu.
	revoked map[uuid.UUID]time.Time
}

// pollOperators reads the roles again. The time is that before the read: what is
// revoked meanwhile is seen a second later.
func (b *Broker) pollOperators(ctx context.Context) error {
	r := &b.roles
	r.mu.Lock()
	r.asked++
	turn, now := r.asked, b.cfg.Now()
	r.mu.Unlock()
	rows, err := b.cfg.Store.Operators(ctx, now, 2*maxRoles)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if turn < r.shown {
		return nil // one that began later came back first
	}
	r.shown = turn
	if r.revoked == nil {
		r.revoked = make(map[uuid.UUID]time.Time)
	}
	r.byKey, r.read = make(map[[32]byte]ledger.Operator, len(rows)), now
	for _, o := range rows {
		if o.Revoked {
			r.revoked[o.ID] = o.ExpiresAt
		}
		r.byKey[o.SPKISHA256] = o
	}
	for id, end := range r.revoked {
		if !now.Before(end) {
			delete(r.revoked, id)
		}
	}
	return nil
}

// OperatorByKey returns who holds the key of a role certificate, by the SHA-256
// of its SPKI DER, from memory. reason.AuthInvalid for unknown, revoked and
// expired ones; reason.StoreUnavailable where the table was not read lately.
func (b *Broker) OperatorByKey(spki [32]byte) (string, Role, error) {
	now := b.cfg.Now()
	r := &b.roles
	r.mu.RLock()
	defer r.mu.RUnlock()
	if now.Sub(r.read).Abs() > rolesStale { // a clock that jumped says nothing either
		return "", RoleNone, reason.New(reason.StoreUnavailable, "whether a role is revoked cannot be told now")
	}
	o, known := r.byKey[spki]
	_, gone := r.revoked[o.ID]
	switch {
	case !known:
		return "", RoleNone, reason.New(reason.AuthInvalid, "the client certificate has neither a SPIFFE ID nor a role")
	case gone:
		return "", RoleNone, reason.New(reason.AuthInvalid, "the role of the client certificate is revoked")
	case !now.Before(o.ExpiresAt):
		return "", RoleNone, reason.New(reason.AuthInvalid, "the role of the client certificate has ended")
	}
	return o.Name, Role(o.Role), nil
}

// AddOperator gives a role to whoever holds a key.
func (b *Broker) AddOperator(ctx context.Context, c Caller, req api.OperatorRequest) (api.Operator, error) {
	if err := req.Validate(); err != nil {
		return api.Operator{}, err
	}
	if err := checkRoleKey(req.SPKI); err != nil {
		return api.Operator{}, err
	}
	ttl := time.Duration(req.TTL) * time.Second
	if ttl == 0 {
		ttl = api.DefaultOperatorTTL * time.Second
	}
	b.roles.mu.RLock()
	full := len(b.roles.byKey) >= maxRoles
	b.roles.mu.RUnlock()
	if full {
		return api.Operator{}, reason.Newf(reason.RequestOverloaded, "there are %d roles already; wait until some have ended", maxRoles)
	}
	now := b.cfg.Now().UTC().Truncate(time.Microsecond)
	id, err := ledger.NewRecordID(now, b.cfg.Rand)
	if err != nil {
		return api.Operator{}, err
	}
	o := ledger.Operator{
		ID: id, Name: req.Name, Role: req.Role, SPKISHA256: sha256.Sum256(req.SPKI), By: c.Operator,
		CreatedAt: now, ExpiresAt: now.Add(ttl),
	}
	return b.changeRole(ctx, c, ledger.TypeOperatorAdded, "", o)
}

// checkRoleKey takes keys that TLS 1.3 signs with everywhere, in their one DER
// form: the table knows a certificate by the hash of exactly these bytes.
func checkRoleKey(spki []byte) error {
	key, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return reason.Wrap(reason.RequestMalformed, "/spki: no public key", err)
	}
	ok := false
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		ok = k.Curve == elliptic.P256() || k.Curve == elliptic.P384()
	case ed25519.PublicKey:
		ok = true
	}
	again, err := x509.MarshalPKIXPublicKey(key)
	if !ok || err != nil || string(again) != string(spki) {
		return reason.New(reason.RequestMalformed, "/spki: not the DER of a key on P-256, P-384 or Ed25519")
	}
	return nil
}

// RevokeOperator takes a role back. This replica knows at once, the others
// within a second.
func (b *Broker) RevokeOperator(ctx context.Context, c Caller, name string, req api.RevokeRequest) (api.Operator, error) {
	if err := req.Validate(); err != nil {
		return api.Operator{}, err
	}
	o, err := b.cfg.Store.OperatorByName(ctx, name)
	if err != nil {
		return api.Operator{}, err
	}
	if o == nil {
		return api.Operator{}, reason.New(reason.RequestNotFound, "no operator of that name has a role")
	}
	o.Revoked = true
	return b.changeRole(ctx, c, ledger.TypeOperatorRevoked, req.Note, *o)
}

func (b *Broker) changeRole(ctx context.Context, c Caller, kind, note string, o ledger.Operator) (api.Operator, error) {
	err := b.appendGrant(ctx, kind, c.Operator, o.ID.String(), note, func(cm *ledger.Commit) { cm.Operator = &o })
	if err != nil {
		return api.Operator{}, err
	}
	// It is recorded and stays so; a read that fails now is made up for by the next.
	if err := b.pollOperators(ctx); err != nil {
		b.cfg.Logger.WarnContext(ctx, "roles not read again", "error", err)
	}
	return wireOperator(o, b.cfg.Now()), nil
}

// Operators lists the roles, the oldest first; those that ended more than 90
// days ago are left out.
func (b *Broker) Operators(ctx context.Context, _ Caller) ([]api.Operator, error) {
	now := b.cfg.Now()
	rows, err := b.cfg.Store.Operators(ctx, now.Add(-rolesListed), 2*maxRoles)
	if err != nil {
		return nil, err
	}
	out := make([]api.Operator, 0, len(rows))
	for _, o := range rows {
		out = append(out, wireOperator(o, now))
	}
	return out, nil
}

func wireOperator(o ledger.Operator, now time.Time) api.Operator {
	status := "active"
	switch {
	case o.Revoked:
		status = "revoked"
	case !now.Before(o.ExpiresAt):
		status = "expired"
	}
	return api.Operator{
		ID: o.ID.String(), Name: o.Name, Role: o.Role, SPKISHA256: hex.EncodeToString(o.SPKISHA256[:]), By: o.By,
		Status: status, CreatedAt: o.CreatedAt, ExpiresAt: o.ExpiresAt,
	}
}
