package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/issuer"
	"github.com/zonebroker/zonebroker/broker/server"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// leaveAddress leaves what operator add reads of a broker's folder: its trust
// anchor and the env file. $ADDR is its address, other.pem another broker's anchor.
func leaveAddress(env *testscript.Env, anchor *issuer.Anchor, address string) error {
	other, err := issuer.NewAnchor(time.Now(), nil)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(env.WorkDir, "other.pem"), other.CertificatePEM(), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(env.WorkDir, anchorCert), anchor.CertificatePEM(), 0o600); err != nil {
		return err
	}
	env.Setenv("ADDR", address)
	return writeEnv(&running{dir: env.WorkDir, address: address, pin: anchor.Pin()})
}

// roleDesk is the desk's table of roles, so that scripts can come back over TLS
// with what operator add made.
type roleDesk struct {
	mu   sync.Mutex
	held map[[32]byte]api.Operator // by mu
}

func (r *roleDesk) OperatorByKey(spki [32]byte) (string, broker.Role, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o, ok := r.held[spki]
	if !ok || o.Status != "active" {
		return "", broker.RoleNone, reason.New(reason.AuthInvalid, "no role")
	}
	return o.Name, broker.Role(o.Role), nil
}

func (r *roleDesk) AddOperator(_ context.Context, c server.Caller, req api.OperatorRequest) (api.Operator, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if req.Name == "taken" {
		return api.Operator{}, reason.New(reason.RequestMalformed, "the name or the key has a role already; revoke it first")
	}
	spki, now := sha256.Sum256(req.SPKI), time.Now()
	o := api.Operator{
		ID: testRecord, Name: req.Name, Role: req.Role, SPKISHA256: hex.EncodeToString(spki[:]), By: c.Operator, Status: "active",
		CreatedAt: now, ExpiresAt: now.Add(time.Duration(req.TTL) * time.Second),
	}
	if r.held == nil {
		r.held = map[[32]byte]api.Operator{}
	}
	r.held[spki] = o
	return o, nil
}

func (r *roleDesk) RevokeOperator(_ context.Context, _ server.Caller, name string, _ api.RevokeRequest) (api.Operator, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, o := range r.held {
		if o.Name == name && o.Status == "active" {
			o.Status = "revoked"
			r.held[k] = o
			return o, nil
		}
	}
	return api.Operator{}, reason.New(reason.RequestNotFound, "no operator of that name has a role")
}

func (r *roleDesk) Operators(context.Context, server.Caller) ([]api.Operator, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []api.Operator
	for _, o := range r.held {
		out = append(out, o)
	}
	return out, nil
}
