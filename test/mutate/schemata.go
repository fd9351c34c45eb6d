package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"slices"
	"strconv"
	"strings"
)

// edit puts text around source[begin:end]. Later edits of the same range lie
// inside earlier ones.
type edit struct {
	begin, end    int
	before, after string
}

// wrap makes a mutant of n by putting text around it. N in the text is its number.
func (s *sites) wrap(n ast.Node, kind, before, after string) {
	m := &mutant{
		Number: s.first + len(s.mutants), Package: s.pkg, File: s.file, Line: s.fset.Position(n.Pos()).Line,
		Function: s.function, Kind: kind, Text: strings.Join(strings.Fields(s.text(n)), " "),
	}
	s.seen[m.key()]++
	if again := s.seen[m.key()]; again > 1 {
		m.Kind = fmt.Sprintf("%s #%d", kind, again)
	}
	number := "(" + strconv.Itoa(m.Number)
	before, after = strings.Replace(before, "(N", number, 1), strings.Replace(after, "(N", number, 1)
	s.mutants = append(s.mutants, m)
	s.edits = append(s.edits, edit{s.offset(n.Pos()), s.offset(n.End()), before, after})
}

// instrumented is the source with every mutant in it, none of them active. No
// line moves.
func (s *sites) instrumented() []byte {
	type piece struct {
		at      int
		closing bool
		order   int
		text    string
	}
	var pieces []piece
	// Openings at one place: the longer range first, then the earlier edit.
	// Closings the other way round.
	order := make([]int, len(s.edits))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(s.edits[a].begin, s.edits[b].begin), cmp.Compare(s.edits[b].end, s.edits[a].end), cmp.Compare(a, b))
	})
	for rank, i := range order {
		e := s.edits[i]
		pieces = append(pieces, piece{e.begin, false, rank, e.before}, piece{e.end, true, -rank, e.after})
	}
	slices.SortStableFunc(pieces, func(a, b piece) int {
		if a.at != b.at {
			return cmp.Compare(a.at, b.at)
		}
		if a.closing != b.closing {
			if a.closing {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.order, b.order)
	})
	var out []byte
	done := 0
	for _, p := range pieces {
		out = append(append(out, s.source[done:p.at]...), p.text...)
		done = p.at
	}
	return append(out, s.source[done:]...)
}

// switchboard is added to each mutated package: which mutant is on, and a shared
// file that remembers which were asked for even if the tests end in a panic.
const switchboard = `package %s

import (
	zbos "os"
	zbstrconv "strconv"
	zbsyscall "syscall"
)

var zbActive, zbReached = func() (int, []byte) {
	n, _ := zbstrconv.Atoi(zbos.Getenv("ZB_MUTANT"))
	reached := make([]byte, %[2]d)
	if name := zbos.Getenv("ZB_REACHED"); name != "" {
		f, err := zbos.OpenFile(name, zbos.O_RDWR, 0)
		if err != nil {
			panic(err)
		}
		if reached, err = zbsyscall.Mmap(int(f.Fd()), 0, %[2]d, zbsyscall.PROT_READ|zbsyscall.PROT_WRITE, zbsyscall.MAP_SHARED); err != nil {
			panic(err)
		}
	}
	return n, reached
}()

func zbMutant(n int) bool {
	zbReached[n] = 1
	return n == zbActive
}

func zbError(n int, err error) error {
	if zbMutant(n) {
		return nil
	}
	return err
}
`
