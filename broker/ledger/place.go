package ledger

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"
)

// Place is where a row stands in lists that span all logs of a database: newest
// first by the time of the commit, then by index and log, and within a record in
// the order in which its rows were written. The zero Place starts at the newest.
type Place struct {
	RecordedAt time.Time // of the record, in whole µs
	Index      int64     // of the record in its log
	LogID      string
	Ord        int // within the record; 0 in lists of records
}

// IsZero says whether p stands for no row.
func (p Place) IsZero() bool { return p == Place{} }

// placeVersion begins every cursor, so that another form can be told from it.
const placeVersion = 1

// placeFixed is the version, µs since 1970, index and ord; the log's name follows.
const placeFixed = 1 + 8 + 8 + 2

// maxLogID bounds the name of a log inside a cursor, in bytes.
const maxLogID = 255

// String is the cursor that stands for p, base64url; "" for the zero Place. It is
// opaque to whoever carries it.
func (p Place) String() string {
	if p.IsZero() {
		return ""
	}
	raw := make([]byte, 0, placeFixed+len(p.LogID))
	raw = append(raw, placeVersion)
	raw = binary.BigEndian.AppendUint64(raw, uint64(p.RecordedAt.UnixMicro()))
	raw = binary.BigEndian.AppendUint64(raw, uint64(p.Index))
	raw = binary.BigEndian.AppendUint16(raw, uint16(p.Ord))
	return base64.RawURLEncoding.EncodeToString(append(raw, p.LogID...))
}

// ParsePlace reads what String wrote, and nothing else. A cursor is only ever a
// bound of a list that its bearer may read anyway: a forged one shows nothing
// more.
func ParsePlace(text string) (Place, error) {
	if text == "" {
		return Place{}, nil
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) <= placeFixed || len(raw) > placeFixed+maxLogID || raw[0] != placeVersion {
		return Place{}, fmt.Errorf("%q is no cursor", text)
	}
	at, index := binary.BigEndian.Uint64(raw[1:]), binary.BigEndian.Uint64(raw[9:])
	p := Place{Ord: int(binary.BigEndian.Uint16(raw[17:])), LogID: string(raw[placeFixed:])}
	// What Postgres could not compare is refused here.
	if at > maxPlaceTime || index > math.MaxInt64 || p.Ord > math.MaxInt16 || !utf8.ValidString(p.LogID) || strings.ContainsRune(p.LogID, 0) {
		return Place{}, fmt.Errorf("%q is no cursor", text)
	}
	p.RecordedAt, p.Index = time.UnixMicro(int64(at)).UTC(), int64(index)
	return p, nil
}

// maxPlaceTime is the year 10000 in µs since 1970.
const maxPlaceTime = 253_402_300_800_000_000

// Places says how far a reader came in each log, by its name: the number of
// entries that were read. Nil is the start of all.
type Places map[string]int64
