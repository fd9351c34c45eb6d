package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// memory bounds what a test binary may map, in KiB: a mutant that drops a limit
// is killed by that, not the machine.
const memory = 4 << 20

// patience is how much longer than without a mutant the tests may take before a
// mutant counts as stuck.
const patience = 6

// tests is one compiled test binary with all mutants in it.
type tests struct {
	of       pkg
	binary   string
	reached  map[int]bool
	baseline time.Duration
}

// binaries are the tests of all packages.
type binaries struct {
	dir   string
	own   map[string]*tests // by import path
	judge []*tests
}

func (b *binaries) close() { _ = os.RemoveAll(b.dir) }

// build writes the instrumented files beside the tree and compiles the tests
// over them.
func build(ctx context.Context, opts options, p *plan) (*binaries, error) {
	dir, err := os.MkdirTemp("", "mutate-")
	if err != nil {
		return nil, err
	}
	b := &binaries{dir: dir, own: map[string]*tests{}}
	if err := b.compile(ctx, opts, p); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *binaries) compile(ctx context.Context, opts options, p *plan) error {
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	put := func(path string, source []byte) error {
		name := filepath.Join(b.dir, fmt.Sprintf("f%d.go", len(overlay.Replace)))
		overlay.Replace[path] = name
		return os.WriteFile(name, source, 0o600)
	}
	for path, source := range p.sources {
		if err := put(path, source); err != nil {
			return err
		}
	}
	for _, t := range p.targets {
		if err := put(filepath.Join(t.Dir, "zz_mutants.go"), fmt.Appendf(nil, switchboard, t.Name, len(p.mutants)+1)); err != nil {
			return err
		}
	}
	raw, err := json.Marshal(overlay)
	if err != nil {
		return err
	}
	list := filepath.Join(b.dir, "overlay.json")
	if err := os.WriteFile(list, raw, 0o600); err != nil {
		return err
	}
	for _, of := range slices.Concat(p.targets, p.also) {
		if !of.hasTests() || b.own[of.ImportPath] != nil {
			continue
		}
		t := &tests{of: of, binary: filepath.Join(b.dir, fmt.Sprintf("t%d.test", len(b.own)))}
		cmd := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-overlay", list, "-o", t.binary, of.ImportPath)
		cmd.Dir, cmd.Stdout, cmd.Stderr = opts.dir, os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("compile the tests of %s: %w", of.ImportPath, err)
		}
		b.own[of.ImportPath] = t
	}
	for _, of := range p.also {
		b.judge = append(b.judge, b.own[of.ImportPath])
	}
	return nil
}

// probe runs the tests without a mutant: they must pass, and what they reach and
// how long they take is kept.
func (b *binaries) probe(ctx context.Context, t *tests, mutants int) error {
	name := t.binary + ".reached"
	if err := os.WriteFile(name, make([]byte, mutants+1), 0o600); err != nil {
		return err
	}
	begin := time.Now()
	var out bytes.Buffer
	if err := t.run(ctx, 0, 10*time.Minute, &out, "ZB_REACHED="+name); err != nil {
		return fmt.Errorf("%s fails without a mutant: %w\n%s", t.of.ImportPath, err, out.Bytes())
	}
	t.baseline = time.Since(begin)
	raw, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	t.reached = map[int]bool{}
	for n, hit := range raw {
		if hit != 0 {
			t.reached[n] = true
		}
	}
	return nil
}

var errStuck = errors.New("ran too long")

// run runs the tests with a mutant, 0 for none. An error is a failed test, a
// panic or errStuck.
func (t *tests) run(ctx context.Context, mutant int, limit time.Duration, out io.Writer, env ...string) error {
	timed, cancel := context.WithTimeoutCause(ctx, limit, errStuck)
	defer cancel()
	cmd := exec.CommandContext(timed, "sh", "-c", fmt.Sprintf(`ulimit -v %d; exec "$0" -test.failfast -test.timeout 0`, memory), t.binary)
	cmd.Dir, cmd.Stdout, cmd.Stderr = t.of.Dir, out, out
	cmd.Env = append(append(os.Environ(), "ZB_MUTANT="+strconv.Itoa(mutant)), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if timed.Err() != nil {
		return errStuck
	}
	return err
}

// judges are the binaries that may kill a mutant: its own package's first, none
// that never reaches it.
func (b *binaries) judges(m *mutant) []*tests {
	var out []*tests
	for _, t := range append([]*tests{b.own[m.Package]}, b.judge...) {
		if t != nil && t.reached[m.Number] && !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	return out
}

func (b *binaries) try(ctx context.Context, m *mutant) {
	m.state = survived
	for _, t := range b.judges(m) {
		m.Reached = true
		limit := patience*t.baseline + 2*time.Second
		err := t.run(ctx, m.Number, limit, io.Discard)
		if errors.Is(err, errStuck) { // or the machine was busy: a slow run must not pass for a kill
			err = t.run(ctx, m.Number, 5*limit, io.Discard)
		}
		if err != nil {
			m.state, m.killer = killed, t.of.ImportPath
			if errors.Is(err, errStuck) {
				m.state = timedOut
			}
			return
		}
	}
}

func (b *binaries) tryAll(ctx context.Context, p *plan, workers int, progress io.Writer) error {
	for _, t := range b.own {
		if err := b.probe(ctx, t, len(p.mutants)); err != nil {
			return err
		}
	}
	queue := make(chan *mutant)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for m := range queue {
				b.try(ctx, m)
			}
		})
	}
	begin := time.Now()
	for i, m := range p.tried {
		if i%100 == 99 {
			fmt.Fprintf(progress, "%d of %d mutants, %s\n", i+1, len(p.tried), time.Since(begin).Round(time.Second))
		}
		queue <- m
	}
	close(queue)
	wg.Wait()
	return ctx.Err()
}

// show runs one mutant and shows what the tests say.
func (b *binaries) show(ctx context.Context, p *plan, number int, out io.Writer) error {
	if number < 1 || number > len(p.mutants) {
		return fmt.Errorf("there is no mutant %d: %d packages have %d", number, len(p.targets), len(p.mutants))
	}
	m := p.mutants[number-1]
	fmt.Fprintln(out, m)
	for _, t := range slices.Compact(append([]*tests{b.own[m.Package]}, b.judge...)) {
		if t == nil {
			continue
		}
		fmt.Fprintf(out, "--- tests of %s\n", t.of.ImportPath)
		if err := t.run(ctx, number, time.Minute, out); err != nil {
			fmt.Fprintln(out, "killed:", err)
			return nil
		}
	}
	fmt.Fprintln(out, "survived")
	return errSurvivors
}
