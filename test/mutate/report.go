package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
)

// entry is a line of equivalent.tsv: file, function, source, mutation, reason.
type entry struct {
	key    string
	reason string
}

// readList reads the list of survivors that change nothing. Lines that begin
// with # are notes.
func readList(opts options) ([]entry, error) {
	raw, err := os.ReadFile(filepath.Join(opts.dir, opts.list))
	if err != nil {
		return nil, err
	}
	var out []entry
	for n, line := range strings.Split(string(raw), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(line, "\t")
		if len(f) != 5 || strings.TrimSpace(f[4]) == "" {
			return nil, fmt.Errorf("%s:%d: want file, function, source, mutation and reason, separated by tabs", opts.list, n+1)
		}
		out = append(out, entry{strings.Join(f[:4], "\t"), f[4]})
	}
	return out, nil
}

// count is a line of the table.
type count struct {
	Package    string `json:"package"`
	Mutants    int    `json:"mutants"`
	Killed     int    `json:"killed"`
	Stuck      int    `json:"stuck"` // of the killed, by running too long
	Equivalent int    `json:"equivalent"`
	Survivors  int    `json:"survivors"`
}

// report is the outcome of a run.
type report struct {
	Packages  []count   `json:"packages"`
	Total     count     `json:"total"`
	Survivors []*mutant `json:"survivors"`
	Stale     []string  `json:"stale"` // listed, but gone or killed
	Clean     bool      `json:"clean"`
}

func judge(p *plan, listed []entry) *report {
	r := &report{Survivors: []*mutant{}, Stale: []string{}}
	byKey, ofFile := map[string]*mutant{}, map[string]bool{}
	for _, m := range p.mutants {
		byKey[m.key()], ofFile[filepath.Dir(m.File)] = m, true
	}
	equivalent := map[string]bool{}
	for _, e := range listed {
		file, _, _ := strings.Cut(e.key, "\t")
		switch m := byKey[e.key]; {
		case m == nil && ofFile[filepath.Dir(file)]:
			r.Stale = append(r.Stale, "gone: "+e.key)
		case m != nil && m.state == untried:
		case m != nil && m.state != survived:
			r.Stale = append(r.Stale, "killed by "+m.killer+": "+e.key)
		case m != nil:
			equivalent[e.key] = true
		}
	}
	counts := map[string]*count{}
	for _, m := range p.tried {
		c := counts[m.Package]
		if c == nil {
			c = &count{Package: m.Package}
			counts[m.Package] = c
		}
		for _, c := range []*count{c, &r.Total} {
			c.add(m, equivalent[m.key()])
		}
		if m.state == survived && !equivalent[m.key()] {
			r.Survivors = append(r.Survivors, m)
		}
	}
	for _, c := range counts {
		r.Packages = append(r.Packages, *c)
	}
	slices.SortFunc(r.Packages, func(a, b count) int { return strings.Compare(a.Package, b.Package) })
	r.Total.Package = "all"
	r.Clean = len(r.Survivors)+len(r.Stale) == 0
	return r
}

func (c *count) add(m *mutant, equivalent bool) {
	c.Mutants++
	switch {
	case m.state == timedOut:
		c.Stuck++
		c.Killed++
	case m.state == killed:
		c.Killed++
	case equivalent:
		c.Equivalent++
	default:
		c.Survivors++
	}
}

func (r *report) print(w io.Writer, form string) error {
	if form == "json" {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "package\tmutants\tkilled\tstuck\tequivalent\tsurvivors\t")
	for _, c := range append(r.Packages, r.Total) {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t\n", c.Package, c.Mutants, c.Killed, c.Stuck, c.Equivalent, c.Survivors)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, m := range r.Survivors {
		how := "survived"
		if !m.Reached {
			how = "no test reaches it"
		}
		fmt.Fprintf(w, "%s (%s)\n", m, how)
	}
	for _, s := range r.Stale {
		fmt.Fprintln(w, "listed as equivalent, but", s)
	}
	return nil
}
