package server

import (
	"context"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/api"
)

// Caller is who is on the other end, as far as the transport proved it.
type Caller = broker.Caller

// Broker is the pipeline as the routes see it. Errors carry a reason.Code;
// an *api.Refusal carries more than one reason, or a fresh challenge.
type Broker interface {
	Challenge(ctx context.Context, c Caller, req api.ChallengeRequest) (api.Challenge, error)
	Attest(ctx context.Context, c Caller, req api.AttestRequest) (api.AttestResponse, error)
	// SVID and JWT issue later SVIDs. Caller.Certificate is the node SVID that was
	// presented; the routes let nobody through without one.
	SVID(ctx context.Context, c Caller, req api.SVIDRequest) (api.SVIDResponse, error)
	JWT(ctx context.Context, c Caller, req api.JWTRequest) (api.JWTResponse, error)
	Bundle(ctx context.Context) ([]byte, error) // SPIFFE bundle JSON
	// OIDCDiscovery and JWKS are for verifiers of JWT-SVIDs that know nothing of
	// SPIFFE.
	OIDCDiscovery(ctx context.Context) ([]byte, error)
	JWKS(ctx context.Context) ([]byte, error)
	Checkpoint(ctx context.Context) (string, error)
	// Retention is the written retention policy of the log, from memory.
	Retention(ctx context.Context) (api.Retention, error)
	// PartitionsAhead is for how many weeks after this one the history has room, -1
	// where nobody has looked yet.
	PartitionsAhead() int64
	Health(ctx context.Context) api.Health
}

// Operator is what operators and auditors ask for.
type Operator interface {
	// OperatorByKey returns who holds the key of a role certificate, by the
	// SHA-256 of its SPKI. It is asked on every request, so it answers from
	// memory: reason.AuthInvalid for unknown, revoked and expired ones,
	// reason.StoreUnavailable where nobody can tell whether one is revoked.
	OperatorByKey(spki [32]byte) (name string, role broker.Role, err error)
	AddOperator(ctx context.Context, c Caller, req api.OperatorRequest) (api.Operator, error)
	RevokeOperator(ctx context.Context, c Caller, name string, req api.RevokeRequest) (api.Operator, error)
	Operators(ctx context.Context, c Caller) ([]api.Operator, error)

	AdmitNode(ctx context.Context, c Caller, req api.AdmitRequest) (api.Admission, error)
	// RevokeAdmission takes an EK hash (64 hex digits).
	RevokeAdmission(ctx context.Context, c Caller, ekHash string, req api.RevokeRequest) (api.Admission, error)
	// Approve takes a node id (26 characters) or an EK hash (64 hex digits).
	Approve(ctx context.Context, c Caller, subject string, req api.ApproveRequest) (api.Approval, error)
	Announce(ctx context.Context, c Caller, node string, req api.AnnounceRequest) (api.Node, error)
	Disable(ctx context.Context, c Caller, node string, req api.DisableRequest) (api.Node, error)
	CreateToken(ctx context.Context, c Caller, req api.TokenRequest) (api.Token, error)
	ApplyRetention(ctx context.Context, c Caller, req api.RetentionRequest) (api.Retention, error)
	Sweep(ctx context.Context, c Caller, req api.SweepRequest) (api.SweepReport, error)
	PlaceHold(ctx context.Context, c Caller, req api.HoldRequest) (api.Hold, error)
	ReleaseHold(ctx context.Context, c Caller, id string, req api.RevokeRequest) (api.Hold, error)
	Holds(ctx context.Context, c Caller, released bool) ([]api.Hold, error)
	Erase(ctx context.Context, c Caller, node string, req api.EraseRequest) (api.ErasureProof, error)
	Pending(ctx context.Context, c Caller) ([]api.PendingNode, error)
	Nodes(ctx context.Context, c Caller, cursor string, limit int) ([]api.Node, string, error)
	Node(ctx context.Context, c Caller, id string) (api.Node, error)
	History(ctx context.Context, c Caller, q api.HistoryQuery) (api.HistoryPage, error)
	Entry(ctx context.Context, c Caller, id string) (api.Entry, error)
	Explain(ctx context.Context, c Caller, id string) (api.Explanation, error)
	// ExportEvidence returns a recorded attestation as an evidence file.
	ExportEvidence(ctx context.Context, c Caller, id string) (api.EvidenceFile, error)
	Drift(ctx context.Context, c Caller, q api.DriftQuery) (api.DriftPage, error)
	Timeline(ctx context.Context, c Caller, q api.TimelineQuery) (api.TimelinePage, error)
	// The questions of compliance teams. Each is recorded before it is answered, as
	// the readings above are; all but History, Entry, Explain, ExportEvidence, Drift,
	// Timeline and VerifyHistory may be answered by a standby.
	Members(ctx context.Context, c Caller, q api.MembersQuery) (api.MemberPage, error)
	NodeAt(ctx context.Context, c Caller, q api.NodeAtQuery) (api.NodeAt, error)
	Intervals(ctx context.Context, c Caller, q api.IntervalsQuery) (api.IntervalPage, error)
	Unseen(ctx context.Context, c Caller, q api.UnseenQuery) (api.UnseenPage, error)
	Population(ctx context.Context, c Caller, q api.PopulationQuery) (api.PopulationPage, error)
	Detections(ctx context.Context, c Caller, q api.DetectionQuery) (api.DetectionPage, error)
	DetectionSummary(ctx context.Context, c Caller, q api.SummaryQuery) (api.DetectionSummary, error)
	Baseline(ctx context.Context, c Caller, q api.BaselineQuery) (api.BaselinePage, error)
	Rates(ctx context.Context, c Caller, q api.RateQuery) (api.RateList, error)
	CrossCheck(ctx context.Context, c Caller, q api.CrossCheckQuery) (api.CrossCheck, error)
	// ImportInventory replaces the list of machines that there should be; Coverage
	// compares it with what attests.
	ImportInventory(ctx context.Context, c Caller, req api.InventoryRequest) (api.Inventory, error)
	Coverage(ctx context.Context, c Caller, q api.CoverageQuery) (api.Coverage, error)
	SVIDs(ctx context.Context, c Caller, q api.SVIDQuery) (api.SVIDPage, error)
	FindSVID(ctx context.Context, c Caller, serial string) (api.SVIDTrail, error)
	VerifyHistory(ctx context.Context, c Caller) (api.Verification, error)
	// Reference returns what an accepted attestation of a node measured;
	// attestation "" takes the node's last.
	Reference(ctx context.Context, c Caller, node, attestation string) (api.ReferenceMaterial, error)
}
