package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// maxBody bounds the body of a record; an attestation has two to three KiB.
const maxBody = 1 << 20

// Record makes the record of an attestation: the canonical body and the columns
// that repeat parts of it. Salt must be fresh random bytes.
func (a Attestation) Record(salt [32]byte) (Record, error) {
	if a.Type != TypeAttestation {
		return Record{}, fmt.Errorf("record of type %q is no attestation", a.Type)
	}
	if a.Verdict == VerdictDeny && len(a.Reasons) == 0 {
		return Record{}, errors.New("a denial without a reason")
	}
	body, err := Canonical(&a)
	if err != nil {
		return Record{}, err
	}
	return a.columns(body, salt)
}

func (a Attestation) columns(body []byte, salt [32]byte) (Record, error) {
	r := Record{
		ID: a.ID, Type: a.Type, Node: a.Node, Zone: a.Zone, Verdict: a.Verdict,
		AttestedAt: unixMilli(a.AttestedAt), FreshUntil: unixMilli(a.FreshUntil),
		PolicyVersion: a.Policy.Version, Salt: salt, Body: body,
	}
	if len(a.Reasons) > 0 {
		r.Reason = a.Reasons[0].Code
	}
	return r, checkRecord(r)
}

// Record makes the record of a grant. The node of an approval, a disabling, an
// announcement or an erasure is its subject.
func (g Grant) Record(salt [32]byte) (Record, error) {
	body, err := Canonical(g)
	if err != nil {
		return Record{}, err
	}
	return g.columns(body, salt)
}

func (g Grant) columns(body []byte, salt [32]byte) (Record, error) {
	r := Record{ID: g.ID, Type: g.Type, Salt: salt, Body: body}
	if g.Type == TypeNodeApproved || g.Type == TypeNodeDisabled || g.Type == TypeNodeAnnounced || g.Type == TypeErased {
		r.Node = NodeID(g.Subject)
	}
	return r, checkRecord(r)
}

func checkRecord(r Record) error {
	switch {
	case r.ID == uuid.Nil:
		return errors.New("a record without an id")
	case r.Type == "":
		return errors.New("a record without a type")
	case len(r.Body) > maxBody:
		return fmt.Errorf("a record body of %d bytes; at most %d", len(r.Body), maxBody)
	}
	return nil
}

// RecordOf derives the record again from its body, for comparison with stored
// columns. The body must be exactly what this package writes: canonical, with
// the known members and no others, and of the given id. A member that a later
// release adds must be omitted while it is zero, so that old bodies stay exact.
func RecordOf(id uuid.UUID, body []byte, salt [32]byte) (Record, error) {
	if len(body) > maxBody {
		return Record{}, fmt.Errorf("a record body of %d bytes; at most %d", len(body), maxBody)
	}
	var head struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(body, &head); err != nil {
		return Record{}, fmt.Errorf("record body: %w", err)
	}
	switch head.Type {
	case TypeAttestation:
		var a Attestation
		return columnsOf(body, &a, id, &a.ID, func() (Record, error) { return a.columns(body, salt) })
	case TypeIssuance:
		var i Issuance
		return columnsOf(body, &i, id, &i.ID, func() (Record, error) { return i.columns(body, salt) })
	case TypeHistoryRead:
		var r Reading
		return columnsOf(body, &r, id, &r.ID, func() (Record, error) { return r.columns(body, salt) })
	default:
		var g Grant
		return columnsOf(body, &g, id, &g.ID, func() (Record, error) { return g.columns(body, salt) })
	}
}

// columnsOf decodes body, which must be of record id, and derives its columns.
func columnsOf(body []byte, into any, id uuid.UUID, found *uuid.UUID, columns func() (Record, error)) (Record, error) {
	if err := decodeExact(body, into); err != nil {
		return Record{}, err
	}
	if *found != id {
		return Record{}, fmt.Errorf("body is of record %s", *found)
	}
	return columns()
}

// decodeExact decodes body and demands that encoding it again gives the same
// bytes: encoding/json takes members of another case, and unknown ones, which
// one reader would see and another would not.
func decodeExact(body []byte, into any) error {
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("record body: %w", err)
	}
	again, err := Canonical(into)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, body) {
		return errors.New("record body is not in its canonical form")
	}
	return nil
}

func unixMilli(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// EvidenceDigest commits to a list of evidence parts: "sha256:" and the hex
// SHA-256 of its RFC 8785 form. It is the claim member "evidence".
func EvidenceDigest(parts []EvidenceID) string {
	if parts == nil {
		parts = []EvidenceID{}
	}
	raw, err := Canonical(parts)
	if err != nil {
		// A list of string pairs always has a canonical form.
		panic(err)
	}
	d := sha256.Sum256(raw)
	return "sha256:" + hex.EncodeToString(d[:])
}
