package main

import (
	"fmt"
	"strings"
)

// Kinds of mutations.
const (
	invert   = "invert the condition"
	drop     = "drop the operand"
	byOne    = "move the comparison by one"
	skip     = "skip the statement"
	noReturn = "do not return the error"
	nilError = "return nil for the error"
)

// mutant is one place changed in one way.
type mutant struct {
	Number   int    `json:"number"` // in the order of the source, from 1
	Package  string `json:"package"`
	File     string `json:"file"` // below the root
	Line     int    `json:"line"`
	Function string `json:"function"`
	Kind     string `json:"mutation"` // with #2 and so on where the same text is mutated again in the function
	Text     string `json:"source"`   // that is mutated, on one line

	state   state
	killer  string // package whose tests noticed
	Reached bool   `json:"reached"` // by a test
}

type state int

const (
	untried state = iota
	killed
	timedOut // killed, by running too long
	survived
)

// key tells a mutant from others without its line, which moves.
func (m *mutant) key() string {
	return strings.Join([]string{m.File, m.Function, m.Text, m.Kind}, "\t")
}

func (m *mutant) String() string {
	return fmt.Sprintf("%s:%d: %s: %s [%s, mutant %d]", m.File, m.Line, m.Kind, m.Text, m.Function, m.Number)
}
