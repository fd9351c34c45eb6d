package ledger

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"time"

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
	Launched int64  `json:"launched,omitempty"` // Unix s
}

// SetMachine keeps what names the node, and when it was started (zero where nothing
// says so).
func (n *Node) SetMachine(m document.Machine, launched time.Time) error {
	row := machineRow{Kind: m.Kind, Name: m.Name}
	if !launched.IsZero() {
		row.Launched = launched.Unix()
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

// Launched returns when the machine was started that the documents of the last
// accepted attestation were about; zero where nothing says so.
func (n *Node) Launched() time.Time {
	if at := n.machineRow().Launched; at != 0 {
		return time.Unix(at, 0).UTC()
	}
	return time.Time{}
}

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
