package broker

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"strings"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/broker/policy"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// activePolicy is one whole policy version; requests take the pointer once, so
// none is judged by half of one and half of another.
type activePolicy struct {
	set     *policy.Set
	version int64
}

func (p *activePolicy) ref() ledger.PolicyRef {
	return ledger.PolicyRef{Version: p.version, Hash: p.set.Hash()}
}

const (
	objectPolicy = "policy"
	objectTrust  = "trust"
)

// ActivatePolicy records set as the policy in force and then judges by it. A set
// that was active before keeps its version.
func (b *Broker) ActivatePolicy(ctx context.Context, set *policy.Set, by string) (int64, error) {
	if set == nil || len(set.Zones()) == 0 {
		return 0, reason.New(reason.PolicyMissing, "the policy has no zone")
	}
	digest, err := hex.DecodeString(strings.TrimPrefix(set.Hash(), "sha256:"))
	if err != nil || len(digest) != 32 {
		return 0, reason.Wrap(reason.PolicyError, "policy hash is not SHA-256", err)
	}
	version, known, err := b.publish(ctx, ledger.TypePolicyActivated, by, &ledger.Object{
		Kind: objectPolicy, Digest: [32]byte(digest), Bytes: set.Canonical(),
	})
	if err != nil {
		return 0, err
	}
	if known {
		if err := b.recordReturn(ctx, by, hex.EncodeToString(digest)); err != nil {
			return 0, err
		}
	}
	b.warnUnconfirmed(ctx, set)
	b.policy.Store(&activePolicy{set: set, version: version})
	return version, nil
}

// recordReturn records that an earlier policy is in force again, unless it is
// the one that was activated last: going back is a change like any other.
func (b *Broker) recordReturn(ctx context.Context, by, digest string) error {
	last, err := b.cfg.Store.Records(ctx, ledger.Query{Type: ledger.TypePolicyActivated, Limit: 1})
	if err != nil || len(last) == 0 {
		return err
	}
	var g ledger.Grant
	if err := json.Unmarshal(last[0].Body, &g); err != nil {
		return err
	}
	if g.Subject == digest {
		return nil
	}
	return b.appendGrant(ctx, ledger.TypePolicyActivated, by, digest, "in force again", func(*ledger.Commit) {})
}

// publish keeps an object by content and returns its version, and whether it was
// kept before.
func (b *Broker) publish(ctx context.Context, kind, by string, o *ledger.Object) (version int64, known bool, err error) {
	old, err := b.cfg.Store.ObjectByDigest(ctx, o.Kind, o.Digest)
	if err != nil {
		return 0, false, err
	}
	if old != nil {
		return old.Version, true, nil
	}
	_, pos, err := b.grant(ctx, ledger.Grant{Type: kind, By: by, Subject: hex.EncodeToString(o.Digest[:])}, func(c *ledger.Commit) { c.Object = o })
	return pos.Version, false, err
}
