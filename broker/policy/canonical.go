package policy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/gowebpki/jcs"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// seal computes the canonical bytes: an RFC 8785 array of the documents with
// defaults filled in, file sets, reference sets and then zones, each by name. The order
// and the names of files, comments and spelling do not enter it.
func (s *Set) seal() error {
	docs := []any{}
	for _, f := range s.fileSets {
		docs = append(docs, f)
	}
	for _, name := range slices.Sorted(maps.Keys(s.references)) {
		docs = append(docs, s.references[name])
	}
	for _, z := range s.zones {
		docs = append(docs, z)
	}
	raw, err := json.Marshal(docs)
	if err != nil {
		return fmt.Errorf("encode policy set: %w", err)
	}
	if s.canonical, err = jcs.Transform(raw); err != nil {
		return fmt.Errorf("canonicalise policy set: %w", err)
	}
	sum := sha256.Sum256(s.canonical)
	s.hash = "sha256:" + hex.EncodeToString(sum[:])
	return nil
}

// Canonical returns the bytes that Hash is over; LoadCanonical reads them back.
// The slice is the caller's.
func (s *Set) Canonical() []byte {
	if s == nil {
		return nil
	}
	return bytes.Clone(s.canonical)
}

// Hash names the set by content: "sha256:" and 64 hex digits, "" for nil.
func (s *Set) Hash() string {
	if s == nil {
		return ""
	}
	return s.hash
}

// LoadCanonical reads what Canonical wrote, for judging recorded evidence again
// under the policy of its time. It returns policy.invalid unless the bytes are
// exactly the canonical form of the set that they describe.
func LoadCanonical(canonical []byte) (*Set, error) {
	var docs []json.RawMessage
	if err := json.Unmarshal(canonical, &docs); err != nil {
		return nil, reason.Wrap(reason.PolicyInvalid, "not a canonical policy set", err)
	}
	files := make([]File, len(docs))
	for i, d := range docs {
		files[i] = File{Name: fmt.Sprintf("document %d", i), Bytes: d}
	}
	s, problems := Load(files)
	if len(problems) > 0 {
		return nil, reason.New(reason.PolicyInvalid, problems[0].String())
	}
	if !bytes.Equal(s.canonical, canonical) {
		return nil, reason.New(reason.PolicyInvalid, "policy set is not in canonical form")
	}
	return s, nil
}
