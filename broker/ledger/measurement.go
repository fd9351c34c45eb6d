package ledger

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// Bounds of a Measurement. What a host's log says is the host's choice, and each
// fact is a row and two index entries.
const (
	MaxFacts     = 64
	MaxFactValue = 512 // bytes; a longer value is kept as "sha256:" and its digest
)

// NewMeasurement makes the measurement of facts by name, at most MaxFacts.
func NewMeasurement(facts map[string]string) (Measurement, error) {
	if len(facts) > MaxFacts {
		return Measurement{}, fmt.Errorf("a measurement of %d facts; at most %d", len(facts), MaxFacts)
	}
	kept := make(map[string]string, len(facts))
	for name, value := range facts {
		if len(value) > MaxFactValue {
			d := sha256.Sum256([]byte(value))
			value = "sha256:" + hex.EncodeToString(d[:])
		}
		kept[name] = value
	}
	raw, err := Canonical(kept)
	if err != nil {
		return Measurement{}, err
	}
	return Measurement{Digest: sha256.Sum256(raw), Facts: raw}, nil
}

// ByName returns the facts.
func (m Measurement) ByName() (map[string]string, error) {
	var out map[string]string
	err := json.Unmarshal(m.Facts, &out)
	return out, err
}
