package celog

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

const (
	maxPCR     = 23
	maxRecord  = 64 << 10 // bytes
	maxDepth   = 8        // of what is skipped inside content
	maxMembers = 64       // of one object
)

// Event is one record. Everything but the digests is a claim of the sender.
type Event struct {
	Line    int // number of the record, from 1
	PCR     int // 0 to 23; -1 for an NV index, which no quote covers
	Digests []Digest
	Type    string // "phase", "machine-id", "filesystem", …; "" where it has none
	Text    string // what systemd says it measured
}

// Digest is what was extended into one bank.
type Digest struct {
	Alg   uint16 // TCG Algorithm Registry
	Value []byte
}

// In returns the digest of an algorithm, nil where the record has none.
func (e Event) In(alg uint16) []byte {
	for _, d := range e.Digests {
		if d.Alg == alg {
			return d.Value
		}
	}
	return nil
}

// Log is a well-formed log. Nothing in it is verified.
type Log struct {
	events []Event
}

// Events returns the records in log order; the slice must not be changed.
func (l Log) Events() []Event { return l.events }

// Parse reads a whole log. No bytes are a log without records.
//
// Refusals: eventlog.truncated (a record that is not whole), request.malformed (one
// of another form), eventlog.pcr_index, eventlog.digests (an algorithm twice, or a
// digest of a wrong length).
func Parse(raw []byte) (Log, error) {
	var l Log
	for len(raw) > 0 {
		var line []byte
		line, raw = nextRecord(raw)
		if len(line) == 0 {
			continue
		}
		e, err := parseRecord(line, len(l.events)+1)
		if err != nil {
			return Log{}, err
		}
		l.events = append(l.events, e)
	}
	return l, nil
}

// nextRecord cuts at a newline or record separator (RFC 7464, 2.2). Neither can stand inside a
// JSON object that systemd writes, and a record that is cut there does not parse.
func nextRecord(raw []byte) (line, rest []byte) {
	i := bytes.IndexAny(raw, "\n\x1e")
	if i < 0 {
		return bytes.TrimSpace(raw), nil
	}
	return bytes.TrimSpace(raw[:i]), raw[i+1:]
}

func parseRecord(line []byte, number int) (Event, error) {
	e := Event{Line: number, PCR: -1}
	if len(line) > maxRecord {
		return e, malformed(number, "is longer than 64 KiB")
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	r := record{decoder: decoder{d}, event: &e}
	if err := r.object(r.member); err != nil {
		return e, placed(err, number)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return e, malformed(number, "has bytes behind its end")
	}
	switch {
	case r.pcr == r.nv:
		return e, malformed(number, "names neither or both of pcr and nv_index")
	case len(e.Digests) == 0:
		return e, reason.Newf(reason.EventLogDigests, "userspace record %d has no digests", number)
	case r.contentType != "systemd":
		return e, malformed(number, "is not of content type systemd")
	}
	return e, nil
}

func malformed(number int, what string) error {
	return reason.Newf(reason.RequestMalformed, "userspace record %d %s", number, what)
}

// placed gives an error of the decoder its code and place.
func placed(err error, number int) error {
	if e, ok := errors.AsType[*reason.Error](err); ok {
		return reason.Newf(e.Code, "userspace record %d: %s", number, e.Detail)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return reason.Newf(reason.EventLogTruncated, "userspace record %d is not whole", number)
	}
	return malformed(number, "is no JSON object of the expected form")
}

// record fills an Event from the members of an object.
type record struct {
	decoder
	event       *Event
	pcr, nv     bool
	contentType string
}

func (r *record) member(name string) error {
	switch name {
	case "pcr":
		n, err := r.number()
		if err != nil {
			return err
		}
		if n > maxPCR {
			return reason.Newf(reason.EventLogPCRIndex, "PCR index %d", n)
		}
		r.pcr, r.event.PCR = true, int(n)
		return nil
	case "nv_index":
		_, err := r.number()
		r.nv = true
		return err
	case "digests":
		return r.array(r.digest)
	case "content_type":
		var err error
		r.contentType, err = r.text()
		return err
	case "content":
		return r.object(r.content)
	case "recnum": // of CEL; systemd writes none
		_, err := r.number()
		return err
	}
	return reason.New(reason.RequestMalformed, "a member that no form of the log has")
}

func (r *record) content(name string) (err error) {
	switch name {
	case "string":
		r.event.Text, err = r.text()
	case "eventType":
		r.event.Type, err = r.text()
	default: // boot id, time and what later versions add: nothing here uses them
		err = r.skip()
	}
	return err
}

func (r *record) digest() error {
	var d Digest
	var known bool
	err := r.object(func(name string) error {
		text, err := r.text()
		if err != nil {
			return err
		}
		switch name {
		case "hashAlg":
			d.Alg, known = algorithms[strings.ToLower(text)]
		case "digest":
			if d.Value, err = hex.DecodeString(text); err != nil {
				return reason.New(reason.EventLogDigests, "a digest that is not hex")
			}
		default:
			return reason.New(reason.RequestMalformed, "a member that no digest has")
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case !known:
		return reason.New(reason.EventLogDigests, "a digest of an unknown algorithm")
	case len(d.Value) != sizes[d.Alg]:
		return reason.Newf(reason.EventLogDigests, "a digest of %d bytes", len(d.Value))
	case r.event.In(d.Alg) != nil:
		return reason.New(reason.EventLogDigests, "two digests of one algorithm")
	}
	r.event.Digests = append(r.event.Digests, d)
	return nil
}

// algorithms by the names that systemd writes (tpm2_hash_alg_to_string).
var algorithms = map[string]uint16{
	"sha1": 0x0004, "sha256": 0x000b, "sha384": 0x000c, "sha512": 0x000d, "sm3_256": 0x0012,
	"sha3_256": 0x0027, "sha3_384": 0x0028, "sha3_512": 0x0029,
}

var sizes = map[uint16]int{
	0x0004: 20, 0x000b: 32, 0x000c: 48, 0x000d: 64, 0x0012: 32, 0x0027: 32, 0x0028: 48, 0x0029: 64,
}

// decoder reads JSON token by token, because a member that stands twice must not
// pass: two readers could take different ones.
type decoder struct{ *json.Decoder }

var errForm = errors.New("another form")

func (d decoder) delim(want json.Delim) error {
	t, err := d.Token()
	if err == nil && t != want {
		err = errForm
	}
	return err
}

func (d decoder) object(member func(name string) error) error {
	if err := d.delim('{'); err != nil {
		return err
	}
	var seen []string
	for d.More() {
		name, err := d.text()
		if err != nil {
			return err
		}
		for _, s := range seen {
			if s == name {
				return reason.New(reason.RequestMalformed, "a member twice")
			}
		}
		if len(seen) == maxMembers {
			return reason.New(reason.RequestMalformed, "too many members")
		}
		seen = append(seen, name)
		if err := member(name); err != nil {
			return err
		}
	}
	return d.delim('}')
}

func (d decoder) array(item func() error) error {
	if err := d.delim('['); err != nil {
		return err
	}
	for d.More() {
		if err := item(); err != nil {
			return err
		}
	}
	return d.delim(']')
}

func (d decoder) text() (string, error) {
	t, err := d.Token()
	if err != nil {
		return "", err
	}
	s, ok := t.(string)
	if !ok {
		return "", errForm
	}
	return s, nil
}

func (d decoder) number() (uint32, error) {
	t, err := d.Token()
	if err != nil {
		return 0, err
	}
	n, _ := t.(json.Number) // "" for another kind, which is no number either
	v, err := strconv.ParseUint(n.String(), 10, 32)
	if err != nil {
		return 0, errForm
	}
	return uint32(v), nil
}

// skip passes over one value of any kind.
func (d decoder) skip() error {
	for depth := 0; ; {
		t, err := d.Token()
		if err != nil {
			return err
		}
		if delim, ok := t.(json.Delim); ok {
			if delim == '{' || delim == '[' {
				depth++
			} else {
				depth--
			}
		}
		if depth > maxDepth {
			return errForm
		}
		if depth <= 0 {
			return nil
		}
	}
}
