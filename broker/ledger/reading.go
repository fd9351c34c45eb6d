package ledger

import (
	"fmt"

	"github.com/google/uuid"
)

// Bounds of a reading, so that asking does not fill the log faster than deciding.
const (
	MaxFilters = 16  // members of Reading.Filter
	MaxFilter  = 512 // bytes of one value
)

// Reading is the body of a TypeHistoryRead record: one question, whatever the
// number of rows that answer it. It is recorded before the answer is given: who
// reads cannot do so unseen. It concerns no node, also where it asks for one:
// what is erased of a node leaves out who asked for it.
type Reading struct {
	Type   string            `json:"type"` // always TypeHistoryRead
	ID     uuid.UUID         `json:"id"`
	By     string            `json:"by"`     // "uid:0" through the admin socket, "operator:<name>"
	Role   string            `json:"role"`   // that By had
	What   string            `json:"what"`   // the question, for example "members"
	Filter map[string]string `json:"filter"` // as it was asked, by the names of the query
	At     int64             `json:"at"`     // Unix ms by the broker's clock
}

// Record makes the record of a reading. Salt must be fresh random bytes.
func (r Reading) Record(salt [32]byte) (Record, error) {
	if r.Filter == nil {
		r.Filter = map[string]string{}
	}
	body, err := Canonical(&r)
	if err != nil {
		return Record{}, err
	}
	return r.columns(body, salt)
}

func (r Reading) columns(body []byte, salt [32]byte) (Record, error) {
	switch {
	case r.Type != TypeHistoryRead:
		return Record{}, fmt.Errorf("record of type %q is no reading", r.Type)
	case r.What == "" || r.By == "":
		return Record{}, fmt.Errorf("a reading of %q by %q", r.What, r.By)
	case r.Filter == nil || len(r.Filter) > MaxFilters:
		return Record{}, fmt.Errorf("a reading with %d filters", len(r.Filter))
	}
	for name, value := range r.Filter {
		if len(name) > MaxFilter || len(value) > MaxFilter {
			return Record{}, fmt.Errorf("filter %.64q of a reading has %d bytes", name, len(value))
		}
	}
	out := Record{ID: r.ID, Type: r.Type, Salt: salt, Body: body}
	return out, checkRecord(out)
}
