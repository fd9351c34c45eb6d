package ledger

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/verifier/document"
)

// RootEK is the root kind of a node that the EK of its TPM names. All others are
// kinds of document.Machine.
const RootEK = "ek"

// NamedByEK reports whether the EK of a TPM names the node.
func NamedByEK(n Node) bool { return n.RootKind == RootEK }

// machineRow is what stands in EKPublic of a node that a document names.
type machineRow struct {
	Kind     string `json:"kind"`
	Name     string `json:"name"`
	Format   string `json:"format"` // of the evidence that bound the key
	Class    string `json:"class"`
	Launched int64  `json:"launched,omitempty"` // Unix s
}

// Binding is the evidence by which a node that documents name got its key.
type Binding struct {
	Format, Class string
	// Launched is when the machine was started that it was about; zero where nothing
	// said so.
	Launched time.Time
}

// SetMachine keeps what names the node, and by what its key is bound to it.
func (n *Node) SetMachine(m document.Machine, by Binding) error {
	row := machineRow{Kind: m.Kind, Name: m.Name, Format: by.Format, Class: by.Class}
	if !by.Launched.IsZero() {
		row.Launched = by.Launched.Unix()
	}
	raw, err := Canonical(row)
	if err != nil {
		return err
	}
	n.EKPublic = raw
	return nil
}

// machineRow returns what SetMachine kept; zero where the EK names the node.
func (n *Node) machineRow() machineRow {
	var row machineRow
	if NamedByEK(*n) || json.Unmarshal(n.EKPublic, &row) != nil {
		return machineRow{}
	}
	return row
}

// DocumentMachine returns the machine that names the node, zero where an EK does.
func (n *Node) DocumentMachine() document.Machine {
	row := n.machineRow()
	return document.Machine{Kind: row.Kind, Name: row.Name}
}

// Binding returns what SetMachine kept of the key; zero where the EK names the node.
func (n *Node) Binding() Binding {
	row := n.machineRow()
	out := Binding{Format: row.Format, Class: row.Class}
	if row.Launched != 0 {
		out.Launched = time.Unix(row.Launched, 0).UTC()
	}
	return out
}

// released begins the name of a key that nobody has.
const released = "released "

// Release takes the key from a node that documents name, for good: the next one whose
// evidence is accepted gets it. id is new.
func (n *Node) Release(id uuid.UUID) {
	n.AKName, n.AKPublic = append([]byte(released), id[:]...), []byte{}
}

// Released reports whether nobody has the key of the node: an operator took it, or
// its first contact was denied.
func Released(n Node) bool { return bytes.HasPrefix(n.AKName, []byte(released)) }

// Proved returns the machine that documents proved, as kind and name; "" where the
// machine showed an EK, which proves nothing before it is activated.
func (p Pending) Proved() string {
	var row machineRow
	if json.Unmarshal(p.EKPublic, &row) != nil || row.Kind == "" {
		return ""
	}
	return row.Kind + " " + row.Name
}

// PackDocument packs a document, or its companion of that name, for the history:
// lp(format) ‖ lp(name) ‖ bytes, lp being a 4-byte big-endian length and the text.
func PackDocument(format, name string, raw []byte) []byte {
	out := make([]byte, 0, 8+len(format)+len(name)+len(raw))
	for _, text := range []string{format, name} {
		out = binary.BigEndian.AppendUint32(out, uint32(len(text)))
		out = append(out, text...)
	}
	return append(out, raw...)
}

// UnpackDocument is the other direction.
func UnpackDocument(packed []byte) (format, name string, raw []byte, err error) {
	var texts [2]string
	for i := range texts {
		if len(packed) < 4 || uint64(binary.BigEndian.Uint32(packed)) > uint64(len(packed)-4) {
			return "", "", nil, errors.New("a document is not kept in its form")
		}
		n := 4 + binary.BigEndian.Uint32(packed)
		texts[i], packed = string(packed[4:n]), packed[n:]
	}
	return texts[0], texts[1], packed, nil
}
