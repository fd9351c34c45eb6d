package swtpm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Clone copies the state of a stopped TPM into a new folder: the same endorsement
// seeds, keys, clock and counters, as after a snapshot of a virtual machine. To
// clone a running TPM is possible and gives the state of its last write.
func Clone(dst, src string) error {
	if _, err := os.Stat(filepath.Join(src, stateFile)); err != nil {
		return fmt.Errorf("clone: %s holds no software TPM: %w", src, err)
	}
	if err := os.MkdirAll(dst, 0o700); err != nil {
		return fmt.Errorf("clone: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dst, stateFile)); err == nil {
		return fmt.Errorf("clone: %s holds a software TPM already", dst)
	}
	names := []string{stateFile}
	for _, tmpl := range templates {
		names = append(names, filepath.Base(tmpl.spkiFile("")), filepath.Base(tmpl.certificateFile("")))
	}
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(src, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("clone: %w", err)
		}
		if err := os.WriteFile(filepath.Join(dst, name), data, 0o600); err != nil {
			return fmt.Errorf("clone: %w", err)
		}
	}
	return nil
}

// stateFile is what swtpm keeps across power cycles.
const stateFile = "tpm2-00.permall"
