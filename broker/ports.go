package broker

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier"
)

// Enricher asks a platform about a document at the time of an attestation: whether
// the instance still runs, whether the token was revoked. What it answers is
// recorded beside the document and judged by the verifier, so that the history can
// be judged again without asking anybody.
type Enricher interface {
	// Name is for logs and metrics, such as "ec2.instances".
	Name() string
	// Format is the format of the documents that it is about.
	Format() string
	// Essential says that the document proves nothing without the answer, so that
	// it has to be asked for before the document is judged; the others are asked
	// about documents that are genuine.
	Essential() bool
	// Enrich returns parts by name, each one of verifier.RecordedPart. bound is what
	// the document has to carry. An error leaves the parts out: a zone that wants what they
	// would say is then not earned, another one is.
	Enrich(ctx context.Context, item verifier.Item, bound [32]byte) (map[string][]byte, error)
}

// Store is what the pipeline needs of the history. Every method returns
// reason.StoreUnavailable where the database does not answer in time.
type Store interface {
	Retained

	// Append records c and everything in it in one transaction with its log
	// entry, and returns only after the commit. It must be atomic. It returns
	// reason.ChallengeSpent where the node is no longer at c.BasedOn or c.Guard, a new node
	// exists already, another node of the admission is active meanwhile, or the
	// join token is used; reason.NodeIdentityConflict where the root of trust or
	// the AK belongs to another node, or a known node would become the second
	// active one of its admission;
	// reason.RequestOverloaded where the queue is full; reason.LedgerFork once
	// writing has stopped.
	Append(ctx context.Context, c ledger.Commit) (ledger.Position, error)

	// NodeByID and NodeByAK read one node in one snapshot. A row or a state whose
	// HMAC fails yields reason.StoreRowForged. Found is false, without an error,
	// where there is none.
	NodeByID(ctx context.Context, id ledger.NodeID) (ledger.Snapshot, error)
	NodeByAK(ctx context.Context, akName []byte) (ledger.Snapshot, error)

	// NodesByAdmission returns the ids of the nodes enrolled under one admission
	// that are not disabled.
	NodesByAdmission(ctx context.Context, admission uuid.UUID) ([]ledger.NodeID, error)

	// AdmissionByEK reads the admission of one EK hash; nil, nil where there is
	// none or its HMAC fails.
	AdmissionByEK(ctx context.Context, ekHash [32]byte) (*ledger.Admission, error)
	// AdmissionsSince returns admissions changed after cursor, at most limit, and
	// the next cursor. A nil one starts.
	AdmissionsSince(ctx context.Context, cursor ledger.Places, limit int) ([]ledger.Admission, ledger.Places, error)
	// JoinTokenByHash reads an unexpired, unused token; nil, nil where none.
	JoinTokenByHash(ctx context.Context, secretHash [32]byte, now time.Time) (*ledger.JoinToken, error)

	// Operators returns the roles that end after since, revoked ones too, the
	// oldest first, at most limit; rows whose HMAC fails are left out.
	// OperatorByName returns the one of a name that is not revoked, nil, nil where
	// there is none.
	Operators(ctx context.Context, since time.Time, limit int) ([]ledger.Operator, error)
	OperatorByName(ctx context.Context, name string) (*ledger.Operator, error)

	// AddPending enters machines into the pending list, which holds at most 1 000:
	// what does not fit is left out. ListPending returns them, oldest first.
	AddPending(ctx context.Context, ps []ledger.Pending) error
	ListPending(ctx context.Context, limit int) ([]ledger.Pending, error)

	// Keys returns the published keys of the kinds whose notAfter lies after now
	// and whose HMAC holds.
	Keys(ctx context.Context, kinds []string, now time.Time) ([]ledger.Key, error)
	// ActiveObject returns the object of kind and digest, nil where none.
	ObjectByDigest(ctx context.Context, kind string, digest [32]byte) (*ledger.Object, error)

	// Evidence returns the stored bytes of a part that records share, checked
	// against its digest; nil, nil where none. Near is the time of a record that
	// names it, and no more than a hint.
	Evidence(ctx context.Context, digest [32]byte, near time.Time) ([]byte, error)
	// RecordEvidence returns what is kept of the named parts of a record, by the
	// hex of the digest, checked against it.
	RecordEvidence(ctx context.Context, id uuid.UUID, parts []ledger.EvidenceID) (map[string][]byte, error)

	// CountRefusals adds to the hourly roll-up of refusals of strangers and of
	// repeats.
	CountRefusals(ctx context.Context, counts []ledger.RefusalCount) error

	// Record returns one record with its index, time, drift and evidence ids;
	// nil, nil where none. Records returns a page, newest first.
	Record(ctx context.Context, id uuid.UUID) (*ledger.Stored, error)
	Records(ctx context.Context, q ledger.Query) ([]ledger.Stored, error)
	// Drift returns a page of changes, newest record first, within a record in the
	// order in which they were written.
	Drift(ctx context.Context, q ledger.DriftQuery) ([]ledger.DriftRow, error)
	// Nodes returns a page of nodes with state, ordered by id, after cursor.
	Nodes(ctx context.Context, cursor ledger.NodeID, limit int) ([]ledger.Snapshot, error)

	// CheckpointRoot returns the root of the signed checkpoint of that size of a
	// log; false where there was none.
	CheckpointRoot(ctx context.Context, log string, size int64) ([32]byte, bool, error)
	// LatestCheckpoint returns the newest signed note, "" before the first.
	LatestCheckpoint(ctx context.Context) (string, error)

	// VerifyHistory reads every log of the database whole and compares each with its
	// records, the grants with all of them, the heads with the stored checkpoints,
	// and that of our log with anchor (a signed note, "" for none), opened with key.
	VerifyHistory(ctx context.Context, anchor string, key ledger.NoteVerifier, progress func(done, size int64)) (ledger.Verification, error)

	// ClockSkew returns the database's clock minus ours.
	ClockSkew(ctx context.Context) (time.Duration, error)
}
