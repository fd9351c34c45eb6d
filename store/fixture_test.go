package store_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/mod/sumdb/note"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/store"
	"github.com/zonebroker/zonebroker/store/storetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestMain turns the binary into a broker process that tests freeze and kill.
func TestMain(m *testing.M) {
	if os.Getenv(childRole) != "" {
		os.Exit(childMain())
	}
	// These tests wait for clocks and disks far more than they compute.
	flag.Parse()
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// world is a log with honest records: what brokers would have written.
type world struct {
	t  testing.TB
	db *storetest.Database
	s  *store.Store
}

func newWorld(t testing.TB) *world {
	t.Helper()
	db := storetest.New(t)
	return &world{t: t, db: db, s: db.Open(t, nil)}
}

func recordID(t testing.TB) uuid.UUID {
	t.Helper()
	id, err := ledger.NewRecordID(time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func salt() (s [32]byte) {
	_, _ = rand.Read(s[:])
	return s
}

// testNode is node number i with AK number ak, admitted by adm.
func testNode(i, ak int, adm ledger.Admission) ledger.Node {
	root := sha256.Sum256(fmt.Appendf(nil, "ek %d", i))
	akPublic := fmt.Appendf(nil, "ak %d.%d", i, ak)
	name := sha256.Sum256(akPublic)
	return ledger.Node{
		ID: ledger.DeriveNodeID("example.org", "ek", root), RootKind: "ek", RootHash: root,
		EKPublic: fmt.Appendf(nil, "ek %d", i), AKPublic: akPublic, AKName: append([]byte{0, 0x0b}, name[:]...),
		Manufacturer: "STM", AdmittedBy: ledger.AdmitInventory, Admission: adm.ID, Machine: adm.Machine, Groups: adm.Groups,
		Status: ledger.StatusActive, AKApproved: true, CreatedAt: time.Now().UTC().Truncate(time.Microsecond),
	}
}

// grantCommit is a record of a grant and the row that it grants.
func grantCommit(t testing.TB, kind, subject string, c ledger.Commit) ledger.Commit {
	t.Helper()
	hash, err := ledger.GrantRowHash(c)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().Truncate(time.Millisecond)
	if c.State != nil && c.State.Verdict == ledger.VerdictAllow {
		if i, ok := opened.Load(c.State.Last); ok {
			c.Interval = i.(*ledger.Interval)
		}
		if kind == ledger.TypeNodeDisabled {
			c.Closed, c.Interval = ledger.Deny(c.Interval, c.State, now), nil
			opened.Delete(c.State.Last)
		}
	}
	g := ledger.Grant{Type: kind, ID: recordID(t), By: "uid:0", Subject: subject, RowHash: hash, At: now.UnixMilli()}
	if c.Record, err = g.Record(salt()); err != nil {
		t.Fatal(err)
	}
	return c
}

func admission(t testing.TB, machine string, eks ...[32]byte) ledger.Admission {
	t.Helper()
	return ledger.Admission{
		ID: recordID(t), Kind: ledger.AdmitInventory, Machine: machine, Groups: []string{"rack-7"}, EKHashes: eks,
		By: "uid:0", CreatedAt: time.Now().UTC().Truncate(time.Microsecond),
	}
}

func admissionCommit(t testing.TB, a ledger.Admission) ledger.Commit {
	t.Helper()
	return grantCommit(t, ledger.TypeAdmission, a.ID.String(), ledger.Commit{Admission: &a})
}

func (w *world) append(c ledger.Commit) ledger.Position {
	w.t.Helper()
	p, err := w.s.Append(w.t.Context(), c)
	if err != nil {
		w.t.Fatalf("append: %v", err)
	}
	return p
}

// admit admits and enrols node i and returns it at version 1.
func (w *world) enrol(i int) ledger.Snapshot {
	w.t.Helper()
	root := sha256.Sum256(fmt.Appendf(nil, "ek %d", i))
	adm := admission(w.t, fmt.Sprintf("machine-%d", i), root)
	w.append(admissionCommit(w.t, adm))
	n := testNode(i, 0, adm)
	c := attestation(w.t, ledger.Snapshot{Node: n}, ledger.VerdictAllow)
	c.Node = &n
	p := w.append(c)
	c.State.Version = p.Version
	return ledger.Snapshot{Found: true, Node: n, State: *c.State}
}

// attestation is what a broker commits for a node in snap: the first one where
// the version is 0.
func attestation(t testing.TB, snap ledger.Snapshot, verdict string) ledger.Commit {
	t.Helper()
	n, id, now := snap.Node, recordID(t), time.Now().Truncate(time.Millisecond)
	quote := append([]byte("quote "), id[:]...)
	digest := sha256.Sum256(quote)
	pcrs := []byte(`{"4":"` + strings.Repeat("aa", 32) + `"}`)
	pcrDigest := sha256.Sum256(pcrs)
	a := ledger.Attestation{
		Type: ledger.TypeAttestation, ID: id, Node: n.ID, RootKind: n.RootKind, RootHash: hex.EncodeToString(n.RootHash[:]),
		Verdict: verdict, Reasons: []ledger.Reason{}, Events: []string{}, Zone: "payments", Tier: 2, Purpose: "renew", Format: "tpm2",
		TrustDomain: "example.org", AttestedAt: now.UnixMilli(), JudgedAt: now.UnixMilli(),
		Policy: ledger.PolicyRef{Version: 1, Hash: "sha256:00"}, AKName: hex.EncodeToString(n.AKName),
		Evidence:     []ledger.EvidenceID{{Kind: ledger.PartQuote, SHA256: hex.EncodeToString(digest[:])}, {Kind: ledger.PartPCRs, SHA256: hex.EncodeToString(pcrDigest[:])}},
		Manufacturer: n.Manufacturer, TPM: n.TPM, AdmittedBy: n.AdmittedBy, Admission: n.Admission.String(), NodeStatus: string(n.Status),
		Firmware: "18446744073709551615", SVIDs: []ledger.IssuedSVID{}, Replica: "test",
	}
	st := snap.State
	st.Node, st.LastAttemptAt, st.Zone, st.Tier, st.Verdict, st.Reason = n.ID, now, "payments", 2, verdict, ""
	if verdict == ledger.VerdictAllow {
		a.FreshUntil = now.Add(5 * time.Minute).UnixMilli()
		a.SVIDs = []ledger.IssuedSVID{{
			Profile: "x509", Serial: hex.EncodeToString(id[:]), SPIFFEID: "spiffe://example.org/zone/payments/node/" + string(n.ID),
			NotBefore: now.Unix(), NotAfter: now.Add(time.Hour).Unix(), TBSSHA256: "aa", CAKeyID: "bb", Key: "tpm",
		}}
		st.Last, st.HasClock, st.Clock, st.Firmware = id, true, 1<<63+7, 1<<64-1
		st.PCRs, st.EventLog = []byte(`{"4":"aa"}`), sha256.Sum256([]byte("log"))
		st.AttestedAt, st.FreshUntil, st.LastOKAt = now, now.Add(5*time.Minute), now
	} else {
		a.Reasons = []ledger.Reason{{Code: string(reason.PolicyPCRMismatch), Detail: "PCR 4"}}
		st.Reason = string(reason.PolicyPCRMismatch)
	}
	a.Drift = ledger.Changes(snap.State, st)
	rec, err := a.Record(salt())
	if err != nil {
		t.Fatal(err)
	}
	c := ledger.Commit{
		Record: rec, BasedOn: snap.State.Version, State: &st, SVIDs: a.SVIDs,
		Evidence: []ledger.EvidencePart{{Kind: ledger.PartQuote, Digest: digest, Bytes: quote}, {Kind: ledger.PartPCRs, Digest: pcrDigest, Bytes: pcrs}},
		Drift:    a.Drift, DriftZone: a.DriftZone(), LastGood: snap.State.AttestedAt,
	}
	earn(t, &c, snap, a)
	return c
}

// opened are the open intervals by their last record, so that a test need not
// carry them from one state to the next.
var opened sync.Map

// earn is what a broker makes of the node's intervals.
func earn(t testing.TB, c *ledger.Commit, snap ledger.Snapshot, a ledger.Attestation) {
	t.Helper()
	open, before := snap.Open, snap.State
	if i, ok := opened.Load(before.Last); ok && before.Verdict == ledger.VerdictAllow {
		open = i.(*ledger.Interval)
	} else if open != nil && before.Verdict == ledger.VerdictDeny {
		open = nil // the denial of this test ended it
	}
	at := time.UnixMilli(a.JudgedAt)
	if a.Verdict == ledger.VerdictDeny {
		c.Closed = ledger.Deny(open, &before, at)
		return
	}
	m, err := ledger.NewMeasurement(map[string]string{"pcr.4": strings.Repeat("aa", 32), "secure_boot": "on"})
	if err != nil {
		t.Fatal(err)
	}
	c.Measurement = &m
	c.Interval, c.Closed = ledger.Earn(open, &before, ledger.Earned{
		Node: a.Node, Zone: a.Zone, Measured: m.Digest, PolicyVersion: a.Policy.Version, At: at,
		FreshUntil: time.UnixMilli(a.FreshUntil), Expires: time.Unix(a.SVIDs[0].NotAfter, 0), Record: a.ID,
	})
	opened.Store(a.ID, c.Interval)
}

// event is a record that touches no node.
func event(t testing.TB) ledger.Commit {
	t.Helper()
	g := ledger.Grant{Type: "test.event", ID: recordID(t), By: "uid:0"}
	rec, err := g.Record(salt())
	if err != nil {
		t.Fatal(err)
	}
	return ledger.Commit{Record: rec}
}

var logKeys = sync.OnceValues(func() (note.Signer, note.Verifier) {
	skey, _, err := ledger.NewLogKey(rand.Reader, ledger.Origin("example.org", "main"))
	if err != nil {
		panic(err)
	}
	s, v, err := ledger.ParseLogKey(skey)
	if err != nil {
		panic(err)
	}
	return s, v
})

// memoryAnchor is a log anchor outside the database.
type memoryAnchor struct {
	mu   sync.Mutex
	text string
}

func (a *memoryAnchor) Load() (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.text, nil
}

func (a *memoryAnchor) Store(text string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.text = text
	return nil
}

func wantCode(t testing.TB, err error, want reason.Code) {
	t.Helper()
	if got := reason.Of(err); got != want {
		t.Errorf("code = %q (%v), want %q", got, err, want)
	}
}

// verify checks the history and wants it whole.
func (w *world) verify(anchor string) ledger.Verification {
	w.t.Helper()
	_, key := logKeys()
	v, err := w.s.VerifyHistory(w.t.Context(), anchor, key, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range v.Problems {
		w.t.Errorf("problem: %s", p)
	}
	return v
}

func (w *world) tryExec(dsn, sql string) error {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(ctx))
}

// pgState returns the SQLSTATE of err.
func pgState(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

func hexOf(b []byte) string { return hex.EncodeToString(b) }

func wantProblem(t *testing.T, w *world, want string) {
	t.Helper()
	if got := w.problems(""); !strings.Contains(got, want) {
		t.Errorf("%q is not among the problems:\n%s", want, got)
	}
}

// changedBody is a record with another body than attestation gave it.
func changedBody(t testing.TB, r ledger.Record, change func(*ledger.Attestation)) ledger.Record {
	t.Helper()
	var a ledger.Attestation
	if err := json.Unmarshal(r.Body, &a); err != nil {
		t.Fatal(err)
	}
	change(&a)
	out, err := a.Record(r.Salt)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
