package platform

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/zonebroker/zonebroker/broker/trust"
	"github.com/zonebroker/zonebroker/verifier"
)

// maxWishes bounds what a folder is asked to fetch beside its objects: whoever
// sends evidence chooses the chips.
const maxWishes = 512

// ErrManyWishes says that the list of wishes is full.
var ErrManyWishes = fmt.Errorf("more than %d objects are wished for", maxWishes)

func wishesPath(dir string) string { return filepath.Join(dir, stateDir, "wishes") }

// Wish asks that Refresh fetch an object that the table cannot list: the VCEK of
// a chip (amd.vcek/product-chip-tcb) or the collateral of an FMSPC
// (intel.collateral/FMSPC). It says whether that was new.
func Wish(dir string, id ID) (bool, error) {
	if err := checkWish(id); err != nil {
		return false, err
	}
	all, err := readWishes(dir)
	if err != nil || slices.Contains(all, id) {
		return false, err
	}
	if len(all) >= maxWishes {
		return false, ErrManyWishes
	}
	return true, writeWishes(dir, append(all, id))
}

func checkWish(id ID) error {
	switch id.Kind {
	case verifier.TrustVCEK:
		_, err := parseChip(id.Name)
		return err
	case verifier.TrustIntelTCB:
		if !isHex(id.Name, 12) || strings.ToLower(id.Name) != id.Name {
			return fmt.Errorf("%q is no FMSPC: 12 hex digits in lower case", id.Name)
		}
		return nil
	}
	return fmt.Errorf("objects of kind %s are in the table, or imported", id.Kind)
}

func readWishes(dir string) ([]ID, error) {
	raw, err := readFile(wishesPath(dir), maxWishes*256)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []ID
	for line := range strings.Lines(string(raw)) {
		k, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "/")
		id := ID{k, name}
		if err := checkWish(id); err != nil {
			return nil, fmt.Errorf("%s: %w", wishesPath(dir), err)
		}
		out = append(out, id)
	}
	return out, nil
}

func writeWishes(dir string, all []ID) error {
	var text strings.Builder
	for _, id := range all {
		text.WriteString(id.String() + "\n")
	}
	return trust.WriteFile(wishesPath(dir), []byte(text.String()))
}
