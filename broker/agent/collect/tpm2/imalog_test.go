package tpm2collect_test

import (
	"bytes"
	"path/filepath"
	"testing"

	tpm2collect "github.com/zonebroker/zonebroker/broker/agent/collect/tpm2"
	"github.com/zonebroker/zonebroker/verifier/ima/build"
)

// TestReadIMALog from an entry on, and what is too much for a request.
func TestReadIMALog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "list")
	if log, first, err := tpm2collect.ReadIMALog(path, 3, 100); log != nil || first != 0 || err != nil {
		t.Errorf("absent: %d bytes from %d, %v", len(log), first, err)
	}
	entries := []build.Entry{build.File("/a", nil), build.File("/b", nil), build.File("/c", nil)}
	whole := build.New(entries...).Bytes()
	writeFile(t, path, whole)
	for name, tc := range map[string]struct {
		from, first int64
		want        []byte
	}{
		"all":              {0, 0, whole},
		"the_last":         {2, 2, build.New(entries[2]).Bytes()},
		"nothing_new":      {3, 3, nil},
		"more_than_it_has": {4, 0, whole},
	} {
		log, first, err := tpm2collect.ReadIMALog(path, tc.from, len(whole))
		if err != nil || first != tc.first || !bytes.Equal(log, tc.want) {
			t.Errorf("%s: %d bytes from %d, %v", name, len(log), first, err)
		}
	}
	if _, _, err := tpm2collect.ReadIMALog(path, 0, len(whole)-1); err == nil {
		t.Error("a list that does not fit into a request was read")
	}
	if log, _, err := tpm2collect.ReadIMALog(path, 1, len(whole)-1); err != nil || len(log) == 0 {
		t.Errorf("its end fits: %v", err)
	}
}
