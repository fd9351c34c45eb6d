package ima

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// Boot tells one run of a kernel from the next, by the TPM's counters as a
// verified quote signed them.
type Boot struct {
	Resets   uint32 // TPMS_CLOCK_INFO.resetCount
	Restarts uint32 // TPMS_CLOCK_INFO.restartCount
}

// State is how far the list of one boot was attested, and what was found in it:
// what a broker keeps between two attestations of a node. It is no evidence, and
// whoever can write it can hide files, so it has to be kept under an HMAC. The
// zero State knows no boot. Comparable.
type State struct {
	known      bool
	boot       Boot
	bank       Bank
	extend     string
	entries    uint64
	pcr        value
	aggregate  value // digest of the first record, which may come again after a kexec
	violations uint64
	judged     string // the text of Judged, which holds slices
}

// Known reports whether the state is of some boot.
func (s State) Known() bool { return s.known }

// Boot returns the boot that the state is of.
func (s State) Boot() Boot { return s.boot }

// Entries returns how many entries of the list were attested since boot.
func (s State) Entries() uint64 { return s.entries }

// Violations returns how many of them are violation records.
func (s State) Violations() uint64 { return s.violations }

// Rules returns the digest of the rules that the files of the boot were judged
// under, "" where they were not judged.
func (s State) Rules() string { return s.verdict().Rules }

func (s State) verdict() Judged {
	var j Judged
	if json.Unmarshal([]byte(s.judged), &j) != nil {
		return Judged{}
	}
	return j
}

// stateText is the one form in which a state is written down, an object with
// these members in this order.
type stateText struct {
	Resets     uint32  `json:"reset_count"`
	Restarts   uint32  `json:"restart_count"`
	Entries    uint64  `json:"entries,string"`
	Bank       Bank    `json:"bank"`
	Extend     string  `json:"extend"`
	PCR        string  `json:"pcr"`       // running value, hex
	Aggregate  string  `json:"aggregate"` // digest of the boot aggregate, hex
	Violations uint64  `json:"violations,string"`
	Judged     *Judged `json:"judged,omitempty"`
}

// maxState bounds the text of a state in bytes: one with every denied file that
// is kept has three KiB.
const maxState = 16 << 10

// MarshalText writes the state as JSON; nothing for the zero State.
func (s State) MarshalText() ([]byte, error) {
	if !s.known {
		return nil, nil
	}
	t := stateText{
		Resets: s.boot.Resets, Restarts: s.boot.Restarts, Entries: s.entries, Bank: s.bank, Extend: s.extend,
		PCR: hex.EncodeToString(s.pcr[:s.bank.Size()]), Aggregate: hex.EncodeToString(s.aggregate[:s.bank.Size()]),
		Violations: s.violations,
	}
	if s.judged != "" {
		j := s.verdict()
		t.Judged = &j
	}
	return json.Marshal(t)
}

// UnmarshalText reads what MarshalText wrote and nothing else; no text is the
// zero State.
func (s *State) UnmarshalText(text []byte) error {
	*s = State{}
	if len(text) == 0 {
		return nil
	}
	if len(text) > maxState {
		return fmt.Errorf("an IMA state of %d bytes; at most %d", len(text), maxState)
	}
	var t stateText
	if err := json.Unmarshal(text, &t); err != nil {
		return fmt.Errorf("read an IMA state: %w", err)
	}
	out := State{
		known: true, boot: Boot{Resets: t.Resets, Restarts: t.Restarts}, bank: t.Bank, extend: t.Extend,
		entries: t.Entries, violations: t.Violations,
	}
	if t.Bank.Size() == 0 || t.Extend != ExtendBank && t.Extend != ExtendPadded {
		return errors.New("read an IMA state: bank or way of extending is not known")
	}
	out.pcr.set(t.Bank, t.PCR)
	out.aggregate.set(t.Bank, t.Aggregate)
	if t.Judged != nil {
		out.keep(*t.Judged)
	}
	again, err := out.MarshalText()
	if err != nil {
		return err
	}
	if !bytes.Equal(again, text) {
		return errors.New("read an IMA state: not in the form that is written")
	}
	*s = out
	return nil
}

func (s *State) keep(j Judged) {
	text, err := json.Marshal(j)
	if err != nil {
		// Strings and numbers always have a form.
		panic(err)
	}
	s.judged = string(text)
}

// set reads a value of the bank in hex. Whatever is no such value is written in
// another way again, which UnmarshalText refuses.
func (v *value) set(bank Bank, text string) {
	raw, _ := hex.DecodeString(text)
	copy(v[:bank.Size()], raw)
}
