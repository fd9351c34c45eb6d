// Command mutate looks for checks that no test would miss. It changes the
// packages that are named one place at a time: a condition inverted, an operand
// of && or || dropped, a comparison moved by one, a statement skipped, an error
// not returned. A change that every test survives is a check that may be lost
// unnoticed: it is killed by a further test, or stands in equivalent.tsv with
// the reason why it changes nothing.
//
//	go run ./test/mutate -pkgs ./verifier/tpm2
//	go run ./test/mutate -pkgs ./verifier/eventlog -files "grub.go cmdline.go"
//	go run ./test/mutate -o json > mutants.json
//	go run ./test/mutate -run 17
//
// All mutants of a run are compiled at once, each behind its number, and a test
// binary learns from its environment which of them to be; the tree is not
// touched. One run without a mutant notes which are reached at all. Those are
// then tried with the tests of their own package and, if these pass, with those
// of the packages named by -also.
//
// Exit code 0: no survivor but the listed ones. 1: the run failed. 2: usage.
// 3: a survivor that is not listed, or a listed one that is gone or is killed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	opts := options{}
	flag.StringVar(&opts.dir, "C", ".", "root of the module")
	pkgs := flag.String("pkgs", "./verifier/...", "packages to mutate, by space")
	also := flag.String("also", "./verifier ./verifier/conformance ./verifier/ekcert ./verifier/akcert", "packages whose tests judge what the own tests let live, by space")
	files := flag.String("files", "", "try only the mutants of the files of these names, by space")
	flag.StringVar(&opts.list, "equivalent", "test/mutate/equivalent.tsv", "list of the survivors that change nothing, below the root")
	flag.IntVar(&opts.only, "run", 0, "try this mutant alone and show its output")
	flag.IntVar(&opts.workers, "workers", 2, "test binaries at a time")
	form := flag.String("o", "table", "table or json")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: go run ./test/mutate [flags]\n\nTries mutants of the verifier against its tests; exit code 3 where one survives that is not listed.")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() > 0 || *form != "table" && *form != "json" || opts.workers < 1 {
		flag.Usage()
		os.Exit(2)
	}
	opts.pkgs, opts.also, opts.files = strings.Fields(*pkgs), strings.Fields(*also), strings.Fields(*files)
	// A run takes all of a machine for minutes; whatever else runs goes first.
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, 15)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := mutate(ctx, opts, *form)
	stop()
	switch {
	case errors.Is(err, errSurvivors):
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(3)
	case err != nil:
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

// options are what the flags say.
type options struct {
	dir        string
	pkgs, also []string
	files      []string // without directory; none for all
	list       string
	only       int
	workers    int
}

var errSurvivors = errors.New("mutants survive that are not listed, or the list is out of date")

func mutate(ctx context.Context, opts options, form string) error {
	plan, err := load(ctx, opts)
	if err != nil {
		return err
	}
	listed, err := readList(opts)
	if err != nil {
		return err
	}
	b, err := build(ctx, opts, plan)
	if err != nil {
		return err
	}
	defer b.close()
	if opts.only != 0 {
		return b.show(ctx, plan, opts.only, os.Stdout)
	}
	if err := b.tryAll(ctx, plan, opts.workers, os.Stderr); err != nil {
		return err
	}
	r := judge(plan, listed)
	if err := r.print(os.Stdout, form); err != nil {
		return err
	}
	if !r.Clean {
		return errSurvivors
	}
	return nil
}
