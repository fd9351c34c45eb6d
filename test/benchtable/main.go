// Command benchtable reads the output of go test -bench and prints it as a table
// for each package, or with -o json as one document. Lines that are no results
// go to standard error, so that a failure is seen while it happens. It exits with
// 1 where a benchmark failed or there was none.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// result is one line of a benchmark.
type result struct {
	Package string             `json:"package"`
	Name    string             `json:"name"` // without "Benchmark" and the number of processors
	N       int64              `json:"n"`
	Metrics map[string]float64 `json:"metrics"` // by unit
	units   []string           // in the order of the line
}

// run is all of the output.
type run struct {
	Machine map[string]string `json:"machine"` // goos, goarch, cpu
	Results []result          `json:"results"`
	failed  bool
}

func main() {
	form := flag.String("o", "table", "table or json")
	flag.Parse()
	r, err := read(os.Stdin, os.Stderr)
	if err == nil {
		err = r.print(os.Stdout, *form)
	}
	if err == nil && (r.failed || len(r.Results) == 0) {
		err = fmt.Errorf("a benchmark failed, or there was none")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchtable:", err)
		os.Exit(1)
	}
}

func read(in io.Reader, rest io.Writer) (*run, error) {
	r := &run{Machine: map[string]string{}}
	pkg := ""
	lines := bufio.NewScanner(in)
	for lines.Buffer(nil, 1<<20); lines.Scan(); {
		line := lines.Text()
		key, value, _ := strings.Cut(line, ": ")
		switch key {
		case "pkg":
			pkg = value
			continue
		case "goos", "goarch", "cpu":
			r.Machine[key] = value
			continue
		}
		if one, ok := parse(line); ok {
			one.Package = pkg
			r.Results = append(r.Results, one)
			continue
		}
		r.failed = r.failed || strings.HasPrefix(strings.TrimSpace(line), "--- FAIL") || strings.HasPrefix(line, "FAIL")
		if line != "PASS" {
			fmt.Fprintln(rest, line)
		}
	}
	return r, lines.Err()
}

// parse takes a line apart: name, iterations, then pairs of value and unit
// (golang.org/design/14313-benchmark-format).
func parse(line string) (result, bool) {
	f := strings.Fields(line)
	if len(f) < 4 || len(f)%2 != 0 || !strings.HasPrefix(f[0], "Benchmark") {
		return result{}, false
	}
	n, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil {
		return result{}, false
	}
	r := result{Name: nameOf(f[0]), N: n, Metrics: map[string]float64{}}
	for i := 2; i < len(f); i += 2 {
		v, err := strconv.ParseFloat(f[i], 64)
		if err != nil {
			return result{}, false
		}
		r.Metrics[f[i+1]] = v
		r.units = append(r.units, f[i+1])
	}
	return r, true
}

// nameOf drops what every name has in common.
func nameOf(s string) string {
	s = strings.TrimPrefix(s, "Benchmark")
	if i := strings.LastIndexByte(s, '-'); i > 0 {
		if _, err := strconv.Atoi(s[i+1:]); err == nil {
			return s[:i]
		}
	}
	return s
}

func (r *run) print(w io.Writer, form string) error {
	switch form {
	case "json":
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	case "table":
		return r.table(w)
	}
	return fmt.Errorf("-o %s: want table or json", form)
}

// table prints a block for each benchmark: its cases as rows, its units as
// columns.
func (r *run) table(w io.Writer) error {
	for _, key := range slices.Sorted(maps.Keys(r.Machine)) {
		fmt.Fprintf(w, "%s: %s\n", key, r.Machine[key])
	}
	for rest := r.Results; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].group() == rest[0].group() {
			n++
		}
		if err := block(w, rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// group is what shares a block: the benchmark of a package.
func (r result) group() string {
	name, _, _ := strings.Cut(r.Name, "/")
	return r.Package + " " + name
}

func block(w io.Writer, rows []result) error {
	fmt.Fprintf(w, "\n%s\n", rows[0].group())
	var units []string
	for _, r := range rows {
		for _, u := range r.units {
			if !slices.Contains(units, u) {
				units = append(units, u)
			}
		}
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "\t%s\t\n", strings.Join(units, "\t"))
	for _, r := range rows {
		_, name, ok := strings.Cut(r.Name, "/")
		if !ok {
			name = r.Name
		}
		cells := []string{name}
		for _, u := range units {
			cells = append(cells, cell(r.Metrics, u))
		}
		fmt.Fprintf(t, "%s\t\n", strings.Join(cells, "\t"))
	}
	return t.Flush()
}

// cell shows four digits: more is noise.
func cell(m map[string]float64, unit string) string {
	v, ok := m[unit]
	switch {
	case !ok:
		return "·"
	case v >= 1000 || v == float64(int64(v)):
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}
