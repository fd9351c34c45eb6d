// Package zonefiles reads a folder of zone documents as a broker does.
package zonefiles

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/zonebroker/zonebroker/broker/policy"
)

// Read reads the documents of a folder in the order of their names.
// Hidden files and other endings are left out: editors and mounts leave such
// things behind. A file above policy.MaxFile is cut there, one byte too long, so
// that lint reports it with the rest.
func Read(dir string) ([]policy.File, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("policy folder: %w", err)
	}
	var files []policy.File
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || !slices.Contains([]string{".yaml", ".yml"}, filepath.Ext(e.Name())) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		// Mounts of configuration are links; what they lead to counts.
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			return nil, fmt.Errorf("policy folder: %s cannot be read as a file", path)
		}
		raw, err := readUpTo(path)
		if err != nil {
			return nil, fmt.Errorf("policy folder: %w", err)
		}
		files = append(files, policy.File{Name: path, Bytes: raw})
	}
	return files, nil
}

// readUpTo reads one byte more than a document may have, so that the loader sees
// that it is too long.
func readUpTo(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, policy.MaxFile+1))
}
