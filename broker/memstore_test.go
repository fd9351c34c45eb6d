package broker_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// memStore is a broker.Store in memory, for tests of its callers only: it keeps
// the promises of ports.go (atomic, compare-and-set, append-only) and nothing of
// how Postgres keeps them. What the store itself promises is tested on a real
// one.
type memStore struct {
	mu         sync.Mutex
	now        func() time.Time
	nodes      map[ledger.NodeID]ledger.Snapshot
	admissions []seqAdmission
	tokens     map[uuid.UUID]*ledger.JoinToken
	pending    map[[32]byte]ledger.Pending
	keys       []ledger.Key
	operators  []ledger.Operator
	objects    []ledger.Object
	evidence   map[[32]byte][]byte
	records    []ledger.Stored
	commits    []ledger.Commit
	refusals   map[ledger.RefusalCount]int64 // by everything but Count
	roots      map[int64][32]byte            // of our log
	others     map[string][32]byte           // of other logs: "log size"
	latest     string
	retained   memRetained
	weeksAhead int
	skew       time.Duration
	frontier   ledger.Frontier

	reads    map[string]int            // calls by method
	fail     map[string]error          // answers of methods instead
	onAppend func(ledger.Commit) error // asked before a commit is applied
}

type seqAdmission struct {
	ledger.Admission
	seq int64
}

var _ broker.Store = (*memStore)(nil)

func newMemStore(now func() time.Time) *memStore {
	return &memStore{
		now: now, nodes: map[ledger.NodeID]ledger.Snapshot{}, tokens: map[uuid.UUID]*ledger.JoinToken{},
		pending: map[[32]byte]ledger.Pending{}, evidence: map[[32]byte][]byte{}, refusals: map[ledger.RefusalCount]int64{},
		weeksAhead: 3, roots: map[int64][32]byte{}, reads: map[string]int{}, fail: map[string]error{},
	}
}

// enter counts a call and returns the error that the test wants of it.
func (m *memStore) enter(ctx context.Context, method string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads[method]++
	if err := m.fail[method]; err != nil {
		return err
	}
	return ctx.Err()
}

// failing makes a method answer with err, nil to heal it.
func (m *memStore) failing(method string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail[method] = err
}

func (m *memStore) Append(ctx context.Context, c ledger.Commit) (ledger.Position, error) {
	if m.onAppend != nil {
		if err := m.onAppend(c); err != nil {
			return ledger.Position{}, err
		}
	}
	if err := m.enter(ctx, "Append"); err != nil {
		return ledger.Position{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	again, err := ledger.RecordOf(c.Record.ID, c.Record.Body, c.Record.Salt)
	if err != nil || again.Type != c.Record.Type || again.Verdict != c.Record.Verdict || again.Node != c.Record.Node {
		return ledger.Position{}, reason.Wrap(reason.Internal, "the record is not that of its body", err)
	}
	if err := m.check(c); err != nil {
		return ledger.Position{}, err
	}
	return m.apply(c), nil
}

// check is the compare-and-set and the unique constraints.
func (m *memStore) check(c ledger.Commit) error {
	spent := reason.New(reason.ChallengeSpent, "the node moved on")
	if c.JoinToken != nil {
		if jt := m.tokens[*c.JoinToken]; jt == nil || jt.UsedBy != "" {
			return spent
		}
	}
	for _, e := range c.Evidence {
		if sha256.Sum256(e.Bytes) != e.Digest {
			return reason.New(reason.Internal, "evidence is not that of its digest")
		}
	}
	if err := m.checkRetention(c); err != nil {
		return err
	}
	if err := m.checkOperator(c.Operator); err != nil {
		return err
	}
	if g := c.Guard; g != nil && m.nodes[g.Node].State.Version != g.Version {
		return spent
	}
	if c.State == nil {
		return nil
	}
	old, found := m.nodes[c.State.Node]
	if found != (c.BasedOn != 0) || found && old.State.Version != c.BasedOn {
		return spent
	}
	if !found && c.Node == nil {
		return reason.New(reason.Internal, "a new node without its row")
	}
	if c.Node == nil {
		return nil
	}
	if found && old.Node.RootHash != c.Node.RootHash {
		return reason.New(reason.NodeIdentityConflict, "a node never changes its root of trust")
	}
	for id, other := range m.nodes {
		if id != c.State.Node && (other.Node.RootHash == c.Node.RootHash || bytes.Equal(other.Node.AKName, c.Node.AKName)) {
			return reason.New(reason.NodeIdentityConflict, "root of trust or AK belong to another node")
		}
	}
	return nil
}

func (m *memStore) apply(c ledger.Commit) ledger.Position {
	at := m.now().UTC().Truncate(time.Microsecond)
	entry := ledger.NewEntry(c.Record, at)
	pos := ledger.Position{Index: m.frontier.Size(), RecordedAt: at}
	m.frontier.Append(entry.Leaf())
	pos.Size = m.frontier.Size()
	m.records = append(m.records, ledger.Stored{Record: c.Record, LogID: "main", Index: pos.Index, RecordedAt: at, Drift: c.Drift})
	m.commits = append(m.commits, c)
	if c.State != nil {
		snap := m.nodes[c.State.Node]
		snap.Found, snap.State, snap.Open = true, *c.State, c.Interval
		snap.State.Version = c.BasedOn + 1
		if c.Node != nil {
			snap.Node = *c.Node
		}
		m.nodes[c.State.Node] = snap
		pos.Version = snap.State.Version
	}
	for _, e := range c.Evidence {
		m.evidence[e.Digest] = bytes.Clone(e.Bytes)
	}
	if c.JoinToken != nil {
		m.tokens[*c.JoinToken].UsedBy = c.State.Node
	}
	if c.Admission != nil {
		m.admissions = slices.DeleteFunc(m.admissions, func(a seqAdmission) bool { return a.ID == c.Admission.ID })
		m.admissions = append(m.admissions, seqAdmission{*c.Admission, pos.Index + 1})
	}
	if c.NewJoinToken != nil {
		jt := *c.NewJoinToken
		m.tokens[jt.ID] = &jt
	}
	if c.Key != nil {
		m.keys = append(m.keys, *c.Key)
	}
	if c.Operator != nil {
		m.putOperator(*c.Operator)
	}
	m.putRetention(c)
	if c.Object != nil {
		o := *c.Object
		o.Version = 1
		for _, other := range m.objects {
			if other.Kind == o.Kind {
				o.Version = max(o.Version, other.Version+1)
			}
		}
		m.objects = append(m.objects, o)
		pos.Version = o.Version
	}
	if c.EndPending != nil {
		delete(m.pending, *c.EndPending)
	}
	return pos
}

func (m *memStore) find(ctx context.Context, method string, match func(ledger.Node) bool) (ledger.Snapshot, error) {
	if err := m.enter(ctx, method); err != nil {
		return ledger.Snapshot{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.nodes {
		if match(s.Node) {
			return s, nil
		}
	}
	return ledger.Snapshot{}, nil
}

func (m *memStore) NodeByID(ctx context.Context, id ledger.NodeID) (ledger.Snapshot, error) {
	return m.find(ctx, "NodeByID", func(n ledger.Node) bool { return n.ID == id })
}

func (m *memStore) NodeByAK(ctx context.Context, name []byte) (ledger.Snapshot, error) {
	return m.find(ctx, "NodeByAK", func(n ledger.Node) bool { return bytes.Equal(n.AKName, name) })
}

func (m *memStore) NodesByAdmission(ctx context.Context, admission uuid.UUID) ([]ledger.NodeID, error) {
	if err := m.enter(ctx, "NodesByAdmission"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []ledger.NodeID
	for id, s := range m.nodes {
		if s.Node.Admission == admission {
			out = append(out, id)
		}
	}
	return out, nil
}

func (m *memStore) AdmissionByEK(ctx context.Context, ek [32]byte) (*ledger.Admission, error) {
	if err := m.enter(ctx, "AdmissionByEK"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range slices.Backward(m.admissions) {
		if slices.Contains(a.EKHashes, ek) {
			return &a.Admission, nil
		}
	}
	return nil, nil
}

func (m *memStore) AdmissionsSince(ctx context.Context, cursor ledger.Places, limit int) ([]ledger.Admission, ledger.Places, error) {
	if err := m.enter(ctx, "AdmissionsSince"); err != nil {
		return nil, cursor, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []ledger.Admission
	at := cursor[logID]
	for _, a := range m.admissions {
		if a.seq > at && len(out) < limit {
			out, at = append(out, a.Admission), a.seq
		}
	}
	return out, ledger.Places{logID: at}, nil
}

func (m *memStore) JoinTokenByHash(ctx context.Context, hash [32]byte, now time.Time) (*ledger.JoinToken, error) {
	if err := m.enter(ctx, "JoinTokenByHash"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, jt := range m.tokens {
		if jt.SecretHash == hash && jt.UsedBy == "" && now.Before(jt.ExpiresAt) {
			out := *jt
			return &out, nil
		}
	}
	return nil, nil
}

func (m *memStore) AddPending(ctx context.Context, ps []ledger.Pending) error {
	if err := m.enter(ctx, "AddPending"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range ps {
		m.pending[p.EKHash] = p
	}
	return nil
}

func (m *memStore) ListPending(ctx context.Context, limit int) ([]ledger.Pending, error) {
	if err := m.enter(ctx, "ListPending"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []ledger.Pending
	for _, p := range m.pending {
		if len(out) < limit {
			out = append(out, p)
		}
	}
	return out, nil
}

func (m *memStore) Keys(ctx context.Context, kinds []string, now time.Time) ([]ledger.Key, error) {
	if err := m.enter(ctx, "Keys"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []ledger.Key
	for _, k := range m.keys {
		if slices.Contains(kinds, k.Kind) && k.NotAfter.After(now) {
			out = append(out, k)
		}
	}
	return out, nil
}

func (m *memStore) ObjectByDigest(ctx context.Context, kind string, digest [32]byte) (*ledger.Object, error) {
	if err := m.enter(ctx, "ObjectByDigest"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range m.objects {
		if o.Kind == kind && o.Digest == digest {
			return &o, nil
		}
	}
	return nil, nil
}

func (m *memStore) Evidence(ctx context.Context, digest [32]byte, _ time.Time) ([]byte, error) {
	if err := m.enter(ctx, "Evidence"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.evidence[digest], nil
}

func (m *memStore) RecordEvidence(ctx context.Context, _ uuid.UUID, parts []ledger.EvidenceID) (map[string][]byte, error) {
	out := make(map[string][]byte, len(parts))
	for _, p := range parts {
		digest, err := hex.DecodeString(p.SHA256)
		if err != nil {
			return nil, err
		}
		raw, err := m.Evidence(ctx, [32]byte(digest), time.Time{})
		if err != nil {
			return nil, err
		}
		if raw != nil {
			out[p.SHA256] = raw
		}
	}
	return out, nil
}

func (m *memStore) CountRefusals(ctx context.Context, counts []ledger.RefusalCount) error {
	if err := m.enter(ctx, "CountRefusals"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range counts {
		n := c.Count
		c.Count = 0
		m.refusals[c] += n
	}
	return nil
}

func (m *memStore) Record(ctx context.Context, id uuid.UUID) (*ledger.Stored, error) {
	if err := m.enter(ctx, "Record"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.records {
		if r.ID == id {
			return &r, nil
		}
	}
	return nil, nil
}

func (m *memStore) Records(ctx context.Context, q ledger.Query) ([]ledger.Stored, error) {
	if err := m.enter(ctx, "Records"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []ledger.Stored
	for _, r := range slices.Backward(m.records) {
		if (q.After.IsZero() || r.Index < q.After.Index) && (q.Node == "" || r.Node == q.Node) && (q.Verdict == "" || r.Verdict == q.Verdict) &&
			(q.Zone == "" || r.Zone == q.Zone) && (q.Type == "" && r.Type != ledger.TypeHistoryRead || r.Type == q.Type) && (q.Reason == "" || r.Reason == q.Reason) && inTime(r.RecordedAt, q.Since, q.Until) && len(out) < q.Limit {
			out = append(out, r)
		}
	}
	return out, nil
}

func (m *memStore) Nodes(ctx context.Context, cursor ledger.NodeID, limit int) ([]ledger.Snapshot, error) {
	if err := m.enter(ctx, "Nodes"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var ids []ledger.NodeID
	for id := range m.nodes {
		if id > cursor {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	var out []ledger.Snapshot
	for _, id := range ids[:min(limit, len(ids))] {
		out = append(out, m.nodes[id])
	}
	return out, nil
}

func (m *memStore) CheckpointRoot(ctx context.Context, log string, size int64) ([32]byte, bool, error) {
	if err := m.enter(ctx, "CheckpointRoot"); err != nil {
		return [32]byte{}, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if log != logID {
		root, ok := m.others[log+" "+strconv.FormatInt(size, 10)]
		return root, ok, nil
	}
	root, ok := m.roots[size]
	return root, ok, nil
}

func (m *memStore) LatestCheckpoint(ctx context.Context) (string, error) {
	if err := m.enter(ctx, "LatestCheckpoint"); err != nil {
		return "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.latest, nil
}

func (m *memStore) VerifyHistory(ctx context.Context, _ string, _ ledger.NoteVerifier, _ func(int64, int64)) (ledger.Verification, error) {
	if err := m.enter(ctx, "VerifyHistory"); err != nil {
		return ledger.Verification{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return ledger.Verification{
		Size: m.frontier.Size(), Root: m.frontier.Root(), Records: m.frontier.Size(),
		Logs: []ledger.LogSum{{Log: logID, Size: m.frontier.Size(), Root: m.frontier.Root()}},
	}, nil
}

func (m *memStore) ClockSkew(ctx context.Context) (time.Duration, error) {
	if err := m.enter(ctx, "ClockSkew"); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.skew, nil
}

// snapshot returns a node as it stands.
func (m *memStore) snapshot(id string) ledger.Snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.nodes[ledger.NodeID(id)]
}

// change edits a node behind the broker's back, as another replica would: its
// version moves on.
func (m *memStore) change(id string, fn func(*ledger.Snapshot)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.nodes[ledger.NodeID(id)]
	fn(&s)
	s.State.Version++
	m.nodes[ledger.NodeID(id)] = s
}

// count returns the rolled-up refusals of a code, of a node or of strangers.
func (m *memStore) count(code reason.Code, node string) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	var n int64
	for k, v := range m.refusals {
		if k.Code == string(code) && k.Node == ledger.NodeID(node) {
			n += v
		}
	}
	return n
}

// revoke withdraws the admission of an EK as a later row.
func (m *memStore) revoke(ek [32]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range slices.Backward(m.admissions) {
		if slices.Contains(a.EKHashes, ek) {
			a.Revoked, a.seq = true, m.admissions[len(m.admissions)-1].seq+1_000_000
			m.admissions = append(m.admissions, a)
			return
		}
	}
}
