package broker

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"time"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/ekcert"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

const (
	defaultTokenTTL  = time.Hour
	defaultAnnounced = time.Hour
	pageLimit        = 500
	defaultPage      = 50
)

// AdmitNode puts the EKs of one machine into the inventory, or an owner of machines.
func (b *Broker) AdmitNode(ctx context.Context, c Caller, req api.AdmitRequest) (api.Admission, error) {
	if err := req.Validate(); err != nil {
		return api.Admission{}, err
	}
	if req.Owner != "" {
		return b.admitOwner(ctx, c, req)
	}
	var hashes [][32]byte
	for _, h := range req.EKHashes {
		d, err := parseDigest(h)
		if err != nil {
			return api.Admission{}, err
		}
		hashes = append(hashes, d)
	}
	kind := ledger.AdmitInventory
	if req.Lab {
		kind = ledger.AdmitLab
	}
	return b.admitEKs(ctx, c, kind, hashes, api.ApproveRequest{Machine: req.Machine, Groups: req.Groups})
}

// admitOwner admits whatever machine proves that it is of the owner. The admission
// is found by the owner's hash, and names it in place of a machine.
func (b *Broker) admitOwner(ctx context.Context, c Caller, req api.AdmitRequest) (api.Admission, error) {
	owner, err := document.ParseOwner(req.Owner)
	if err != nil {
		return api.Admission{}, reason.New(reason.RequestMalformed, "/owner: "+err.Error())
	}
	return b.admitHashes(ctx, c, ledger.AdmitOwner, [][32]byte{owner.Hash()}, req.Owner, req.Groups, "")
}

func parseDigest(s string) ([32]byte, error) {
	raw, err := hex.DecodeString(s)
	if err != nil || len(raw) != 32 {
		return [32]byte{}, reason.New(reason.RequestMalformed, "an EK hash is the hex SHA-256 of the EK's SPKI DER, 64 digits")
	}
	return [32]byte(raw), nil
}

func (b *Broker) admitEKs(ctx context.Context, c Caller, kind string, eks [][32]byte, req api.ApproveRequest) (api.Admission, error) {
	if err := req.Validate(); err != nil {
		return api.Admission{}, err
	}
	return b.admitHashes(ctx, c, kind, eks, req.Machine, req.Groups, req.Note)
}

func (b *Broker) admitHashes(ctx context.Context, c Caller, kind string, eks [][32]byte, machine string, groups []string, note string) (api.Admission, error) {
	id, err := ledger.NewRecordID(b.cfg.Now(), b.cfg.Rand)
	if err != nil {
		return api.Admission{}, err
	}
	adm := ledger.Admission{
		ID: id, Kind: kind, Machine: machine, Groups: nonNil(groups), EKHashes: eks,
		By: c.Operator, CreatedAt: b.cfg.Now().UTC().Truncate(time.Microsecond),
	}
	err = b.appendGrant(ctx, ledger.TypeAdmission, c.Operator, id.String(), note, func(cm *ledger.Commit) {
		cm.Admission = &adm
		cm.EndPending = &eks[0]
	})
	if err != nil {
		return api.Admission{}, err
	}
	if err := b.pollAdmissions(ctx); err != nil {
		return api.Admission{}, err
	}
	return wireAdmission(adm), nil
}

func wireAdmission(a ledger.Admission) api.Admission {
	out := api.Admission{
		ID: a.ID.String(), Kind: a.Kind, Machine: a.Machine, Groups: nonNil(a.Groups), By: a.By, Revoked: a.Revoked, CreatedAt: a.CreatedAt,
	}
	for _, e := range a.EKHashes {
		out.EKHashes = append(out.EKHashes, hex.EncodeToString(e[:]))
	}
	return out
}

// RevokeAdmission takes back the admission of an EK, with all EKs of its machine:
// each later attestation of them is refused as tpm2.ek.revoked. An EK that nobody
// admitted by its hash gets a revoked entry of its own, so that a machine of a
// join token, or a stolen one that never asked, is refused as well. Admitting the
// EK again ends it. It is not an error to revoke twice.
func (b *Broker) RevokeAdmission(ctx context.Context, c Caller, ekHash string, req api.RevokeRequest) (api.Admission, error) {
	if err := req.Validate(); err != nil {
		return api.Admission{}, err
	}
	ek, err := parseDigest(ekHash)
	if err != nil {
		return api.Admission{}, err
	}
	found, err := b.cfg.Store.AdmissionByEK(ctx, ek)
	if err != nil {
		return api.Admission{}, err
	}
	if found == nil {
		id, err := ledger.NewRecordID(b.cfg.Now(), b.cfg.Rand)
		if err != nil {
			return api.Admission{}, err
		}
		found = &ledger.Admission{
			ID: id, Kind: ledger.AdmitInventory, Groups: []string{}, EKHashes: [][32]byte{ek},
			By: c.Operator, CreatedAt: b.cfg.Now().UTC().Truncate(time.Microsecond),
		}
	}
	if found.Revoked {
		return wireAdmission(*found), nil
	}
	adm := *found
	adm.Revoked = true
	err = b.appendGrant(ctx, ledger.TypeAdmissionEnded, c.Operator, adm.ID.String(), req.Note, func(cm *ledger.Commit) {
		cm.Admission = &adm
		cm.EndPending = &ek
	})
	if err != nil {
		return api.Admission{}, err
	}
	// It is recorded and stays so; a read that fails now is made up for by the next.
	if err := b.pollAdmissions(ctx); err != nil {
		b.cfg.Logger.ErrorContext(ctx, "admissions were not read again", "error", err)
	}
	return wireAdmission(adm), nil
}

// Approve admits a pending machine by its EK hash, or lets a node go on that
// waits after a rollback, a fork, a second EK or a change of its AK. The next
// clock triple and prev of such a node are taken as they come.
func (b *Broker) Approve(ctx context.Context, c Caller, subject string, req api.ApproveRequest) (api.Approval, error) {
	if len(subject) == 64 {
		ek, err := parseDigest(subject)
		if err != nil {
			return api.Approval{}, err
		}
		adm, err := b.admitEKs(ctx, c, ledger.AdmitOperator, [][32]byte{ek}, req)
		if err != nil {
			return api.Approval{}, err
		}
		return api.Approval{Admission: &adm}, nil
	}
	if err := req.Validate(); err != nil {
		return api.Approval{}, err
	}
	if req.Machine != "" || len(req.Groups) > 0 {
		return api.Approval{}, reason.New(reason.RequestMalformed, "a known node keeps its machine and groups; admit its EK again to change them")
	}
	if req.ReleaseKey {
		if err := b.releasable(ctx, subject); err != nil {
			return api.Approval{}, err
		}
	}
	release, err := ledger.NewRecordID(b.cfg.Now(), b.cfg.Rand)
	if err != nil {
		return api.Approval{}, err
	}
	node, err := b.changeNode(ctx, c, subject, ledger.Grant{Type: ledger.TypeNodeApproved, Note: req.Note}, func(s *ledger.Snapshot) {
		s.Node.Status, s.Node.AKApproved = ledger.StatusActive, true
		s.State.Rebaseline = true
		if req.ReleaseKey {
			s.Node.Release(release)
		}
	})
	if err != nil {
		return api.Approval{}, err
	}
	return api.Approval{Node: &node}, nil
}

// releasable refuses to take the key from a node that has it by its EK: there
// activation says which key is the TPM's.
func (b *Broker) releasable(ctx context.Context, node string) error {
	snap, err := b.cfg.Store.NodeByID(ctx, ledger.NodeID(node))
	if err == nil && snap.Found && (ledger.NamedByEK(snap.Node) || snap.Node.RootKind == document.MachineKey) {
		return reason.New(reason.RequestMalformed, "/release_key: the node is named by its EK or by the key itself; only documents about a machine leave room for another key")
	}
	return err
}

// Disable ends a node: its requests are refused from the next one on; its SVIDs
// live to their end.
func (b *Broker) Disable(ctx context.Context, c Caller, node string, req api.DisableRequest) (api.Node, error) {
	if err := req.Validate(); err != nil {
		return api.Node{}, err
	}
	return b.changeNode(ctx, c, node, ledger.Grant{Type: ledger.TypeNodeDisabled, Note: req.Note}, func(s *ledger.Snapshot) {
		s.Node.Status = ledger.StatusDisabled
	})
}

// Announce expects one reboot of a node within a time, for zones that refuse
// reboots which nobody announced. A later announcement takes the place of an
// earlier one.
func (b *Broker) Announce(ctx context.Context, c Caller, node string, req api.AnnounceRequest) (api.Node, error) {
	if err := req.Validate(); err != nil {
		return api.Node{}, err
	}
	within := time.Duration(req.Within) * time.Second
	if within == 0 {
		within = defaultAnnounced
	}
	until := b.cfg.Now().UTC().Add(within).Truncate(time.Millisecond)
	g := ledger.Grant{Type: ledger.TypeNodeAnnounced, Note: req.Note, Until: until.UnixMilli()}
	return b.changeNode(ctx, c, node, g, func(s *ledger.Snapshot) {
		s.State.RebootUntil = until
	})
}

// changeNode changes a node by compare-and-set, so that it cannot overwrite a
// decision that was made meanwhile; it tries again a few times.
func (b *Broker) changeNode(ctx context.Context, c Caller, id string, g ledger.Grant, change func(*ledger.Snapshot)) (api.Node, error) {
	for range 5 {
		snap, err := b.cfg.Store.NodeByID(ctx, ledger.NodeID(id))
		if err != nil {
			return api.Node{}, err
		}
		if !snap.Found {
			return api.Node{}, reason.New(reason.RequestNotFound, "no such node")
		}
		if isErased(snap.Node) {
			return api.Node{}, reason.New(reason.NodeDisabled, "the node was erased, and is disabled for good")
		}
		change(&snap)
		var pos ledger.Position
		g.By, g.Subject = c.Operator, id
		_, pos, err = b.grant(ctx, g, func(cm *ledger.Commit) {
			cm.BasedOn, cm.Node, cm.State = snap.State.Version, &snap.Node, &snap.State
			cm.Interval = snap.Open
		})
		if err == nil {
			snap.State.Version = pos.Version
			return b.wireNode(snap), nil
		}
		if reason.Of(err) != reason.ChallengeSpent {
			return api.Node{}, err
		}
	}
	return api.Node{}, reason.New(reason.RequestOverloaded, "the node changes all the time; try again")
}

// CreateToken makes a one-time join token. Only its hash is kept.
func (b *Broker) CreateToken(ctx context.Context, c Caller, req api.TokenRequest) (api.Token, error) {
	if err := req.Validate(); err != nil {
		return api.Token{}, err
	}
	ttl := time.Duration(req.TTL) * time.Second
	if ttl == 0 {
		ttl = defaultTokenTTL
	}
	secret := make([]byte, 32)
	if _, err := readFull(b.cfg.Rand, secret); err != nil {
		return api.Token{}, err
	}
	text := base64.RawURLEncoding.EncodeToString(secret)
	now := b.cfg.Now().UTC().Truncate(time.Microsecond)
	id, err := ledger.NewRecordID(now, b.cfg.Rand)
	if err != nil {
		return api.Token{}, err
	}
	jt := ledger.JoinToken{
		ID: id, SecretHash: sha256.Sum256([]byte(text)), Machine: req.Machine, Groups: nonNil(req.Groups),
		By: c.Operator, CreatedAt: now, ExpiresAt: now.Add(ttl),
	}
	err = b.appendGrant(ctx, ledger.TypeTokenCreated, c.Operator, id.String(), "", func(cm *ledger.Commit) { cm.NewJoinToken = &jt })
	if err != nil {
		return api.Token{}, err
	}
	return api.Token{ID: id.String(), Secret: text, ExpiresAt: jt.ExpiresAt}, nil
}

// Pending lists machines that asked and wait, oldest first.
func (b *Broker) Pending(ctx context.Context, _ Caller) ([]api.PendingNode, error) {
	if err := b.flushPending(ctx); err != nil {
		return nil, err
	}
	ps, err := b.cfg.Store.ListPending(ctx, pendingCap)
	if err != nil {
		return nil, err
	}
	out := make([]api.PendingNode, 0, len(ps))
	for _, p := range ps {
		out = append(out, api.PendingNode{EKHash: hex.EncodeToString(p.EKHash[:]), Proved: p.Proved(), FirstSeen: p.FirstSeen, LastSeen: p.LastSeen})
	}
	return out, nil
}

// Nodes returns a page of nodes by id and the cursor of the next, "" at the end.
func (b *Broker) Nodes(ctx context.Context, _ Caller, cursor string, limit int) ([]api.Node, string, error) {
	limit = pageSize(limit)
	snaps, err := b.cfg.Store.Nodes(ctx, ledger.NodeID(cursor), limit)
	if err != nil {
		return nil, "", err
	}
	out := make([]api.Node, 0, len(snaps))
	for _, s := range snaps {
		out = append(out, b.wireNode(s))
	}
	next := ""
	if len(snaps) == limit {
		next = string(snaps[len(snaps)-1].Node.ID)
	}
	return out, next, nil
}

// Node returns one node.
func (b *Broker) Node(ctx context.Context, _ Caller, id string) (api.Node, error) {
	snap, err := b.cfg.Store.NodeByID(ctx, ledger.NodeID(id))
	if err != nil {
		return api.Node{}, err
	}
	if !snap.Found {
		return api.Node{}, reason.New(reason.RequestNotFound, "no such node")
	}
	return b.wireNode(snap), nil
}

func pageSize(limit int) int {
	if limit <= 0 {
		return defaultPage
	}
	return min(limit, pageLimit)
}

func (b *Broker) wireNode(s ledger.Snapshot) api.Node {
	n, st := s.Node, s.State
	return api.Node{
		ID: string(n.ID), Status: string(n.Status), Standing: standing(st, b.cfg.Now()),
		Zone: st.Zone, Tier: st.Tier, Verdict: st.Verdict, Reason: st.Reason,
		RootKind: n.RootKind, RootName: n.DocumentMachine().Name,
		RootHash: hex.EncodeToString(n.RootHash[:]), AKName: keyOf(n), Manufacturer: n.Manufacturer,
		TPMKind: ekcert.Kind(n.Manufacturer, n.TPM.Model), TPMModel: n.TPM.Model,
		AdmittedBy: n.AdmittedBy, Machine: n.Machine, Groups: nonNil(n.Groups), Version: st.Version,
		Last: idOrEmpty(st.Last), PolicyVersion: st.PolicyVersion, CreatedAt: n.CreatedAt,
		AttestedAt: st.AttestedAt, FreshUntil: st.FreshUntil, ExpiresAt: st.ExpiresAt, LastAttemptAt: st.LastAttemptAt, RebootUntil: st.RebootUntil,
	}
}

// keyOf is the Name of the node's key in hex, "" where nobody has it.
func keyOf(n ledger.Node) string {
	if ledger.Released(n) {
		return ""
	}
	return hex.EncodeToString(n.AKName)
}

// standing computes what a node holds from expiry alone: no flag that somebody
// forgot to clear can keep it trusted, and a later denial does not call back an
// SVID that still lives. The last verdict stands beside it.
func standing(st ledger.NodeState, now time.Time) string {
	switch {
	case st.Last == uuid.Nil && st.Verdict == ledger.VerdictDeny:
		return "denied"
	case st.Last == uuid.Nil:
		return "none"
	case now.Before(st.FreshUntil):
		return "fresh"
	case now.Before(st.ExpiresAt):
		return "stale"
	default:
		return "expired"
	}
}
