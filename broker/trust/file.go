package trust

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// WriteFile replaces a file of trust data (mode 0644) by rename: a crash leaves the
// old or the new one. It makes the folder where there is none.
func WriteFile(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".trust-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = tmp.Write(text)
	if err := errors.Join(err, tmp.Chmod(0o644), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// ReadTable reads a table that a version ships: a head, then a line a row of fields
// between tabs. what names the table in errors, which tell the line.
func ReadTable[R any](what, head, text string, row func(fields []string) (R, error)) ([]R, error) {
	var out []R
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSuffix(line, "\n")
		if n == 1 {
			if line != head {
				return nil, fmt.Errorf("%s: line 1 is not its head", what)
			}
			continue
		}
		r, err := row(strings.Split(line, "\t"))
		if err != nil {
			return nil, fmt.Errorf("%s: line %d: %w", what, n, err)
		}
		out = append(out, r)
	}
	return out, nil
}
