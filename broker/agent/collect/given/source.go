// Package given collects what others make for this host: tokens that Kubernetes
// or another verifier puts into a file or that a program prints, a certificate of
// an existing PKI with its key, and a join token.
package given

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
)

const (
	// programPrefix marks a source that is a program.
	programPrefix = "exec:"
	// noncePlace is replaced by the challenge in the arguments of a program.
	noncePlace  = "{nonce}"
	programTime = time.Minute
	maxStderr   = 4 << 10
)

// Source is where a document comes from: a file, or a program that prints it. The
// zero value is none. Trusted as the agent itself: a program runs with its rights.
type Source struct {
	path    string
	program []string
}

// ParseSource reads "FILE" or "exec:PROGRAM ARGUMENT…". Arguments are split at
// spaces and no shell sees them; {nonce} in one of them is the challenge, in the
// form that the format wants.
func ParseSource(text string) (Source, error) {
	line, isProgram := strings.CutPrefix(text, programPrefix)
	if !isProgram {
		return Source{path: text}, nil
	}
	program := strings.Fields(line)
	if len(program) == 0 || !filepath.IsAbs(program[0]) {
		return Source{}, fmt.Errorf("%q: the program behind exec: needs an absolute path", text)
	}
	return Source{program: program}, nil
}

// IsZero says that there is no source.
func (s Source) IsZero() bool { return s.path == "" && s.program == nil }

// String names the source for people, without arguments.
func (s Source) String() string {
	if s.program != nil {
		return s.program[0]
	}
	return s.path
}

// fixed says that the source cannot know a challenge.
func (s Source) fixed() bool {
	return !slices.ContainsFunc(s.program, func(arg string) bool { return strings.Contains(arg, noncePlace) })
}

// present says why there is nothing at the source now, nil if there is.
func (s Source) present() error {
	name := s.String()
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("%s is a folder", name)
	case s.program != nil && info.Mode()&0o111 == 0:
		return fmt.Errorf("%s is no program", name)
	}
	return nil
}

// read returns what the source has for nonce, without white space around it.
func (s Source) read(ctx context.Context, what, nonce string, limit int) ([]byte, error) {
	var (
		text []byte
		err  error
	)
	if s.program != nil {
		text, err = s.run(ctx, nonce, limit)
	} else {
		text, err = collect.Read(s.path, limit)
	}
	if err == nil {
		if text = bytes.TrimSpace(text); len(text) == 0 {
			err = errors.New(s.String() + " gave nothing")
		}
	}
	if err != nil {
		return nil, &collect.Error{What: "get " + what, Why: err.Error(), Err: err}
	}
	return text, nil
}

func (s Source) run(ctx context.Context, nonce string, limit int) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, programTime, fmt.Errorf("%s took more than %s", s, programTime))
	defer cancel()
	args := slices.Clone(s.program[1:])
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], noncePlace, nonce)
	}
	cmd := exec.CommandContext(ctx, s.program[0], args...)
	cmd.WaitDelay = time.Second // a child of its own may hold the pipe open
	// Ending the program is the only way: it would wait for ever for a reader.
	out, notes := &bounded{limit: limit, stop: cancel}, &bounded{limit: maxStderr}
	cmd.Stdout, cmd.Stderr = out, notes
	err := cmd.Run()
	switch {
	case out.over:
		return nil, fmt.Errorf("%s printed more than %d bytes: %w", s, limit, collect.ErrTooLarge)
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		if last := lastLine(notes.kept.Bytes()); last != "" {
			return nil, fmt.Errorf("%s: %w: %s", s, err, last)
		}
		return nil, fmt.Errorf("%s: %w", s, err)
	}
	return out.kept.Bytes(), nil
}

// bounded takes limit bytes and drops the rest, of which it tells stop.
type bounded struct {
	// kept is not embedded: its ReadFrom would take everything past Write.
	kept  bytes.Buffer
	limit int
	stop  func()
	over  bool
}

func (b *bounded) Write(p []byte) (int, error) {
	room := b.limit - b.kept.Len()
	if len(p) <= room {
		return b.kept.Write(p)
	}
	b.over = true
	if b.stop != nil {
		b.stop()
	}
	b.kept.Write(p[:room])
	return len(p), nil
}

func lastLine(text []byte) string {
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return string(bytes.TrimSpace(lines[len(lines)-1]))
}
