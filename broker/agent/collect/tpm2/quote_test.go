package tpm2collect_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	tpm2collect "github.com/zonebroker/zonebroker/broker/agent/collect/tpm2"
)

func writeFile(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func pcrDigest(t *testing.T, attest []byte) []byte {
	t.Helper()
	a, err := tpm2.Unmarshal[tpm2.TPMSAttest](attest)
	if err != nil {
		t.Fatal(err)
	}
	q, err := a.Attested.Quote()
	if err != nil {
		t.Fatal(err)
	}
	return q.PCRDigest.Buffer
}

func TestQuoteCoversExactlyTheSelection(t *testing.T) {
	tpm := startTPM(t, "")
	tpm.extend(t, 14, 'x')
	host := tpm.open(t, tpm2collect.Config{})
	for _, test := range []struct {
		name      string
		selection [3]byte
		want      []int
	}{
		{"one", [3]byte{0x80, 0, 0}, []int{7}},
		{"more_than_one_read", [3]byte{0xff, 0x43, 0}, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14}},
		{"all", [3]byte{0xff, 0xff, 0xff}, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23}},
	} {
		t.Run(test.name, func(t *testing.T) {
			q, err := host.Quote(t.Context(), test.selection, []byte("bound"))
			if err != nil {
				t.Fatal(err)
			}
			if len(q.PCRs) != len(test.want) {
				t.Errorf("%d values, want %d", len(q.PCRs), len(test.want))
			}
			h := sha256.New()
			for _, i := range test.want {
				if len(q.PCRs[i]) != 32 {
					t.Errorf("PCR %d has %d bytes", i, len(q.PCRs[i]))
				}
				h.Write(q.PCRs[i])
			}
			if !bytes.Equal(h.Sum(nil), pcrDigest(t, q.Attest)) {
				t.Error("values and quote do not belong together")
			}
		})
	}
}

// TestQuoteUnderExtends: values and quote belong together also while somebody
// keeps extending a selected PCR.
func TestQuoteUnderExtends(t *testing.T) {
	tpm := startTPM(t, "")
	host := tpm.open(t, tpm2collect.Config{})
	stop := make(chan struct{})
	var busy sync.WaitGroup
	busy.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(2 * time.Millisecond):
				tpm.extend(t, 10, 'y')
			}
		}
	})
	defer busy.Wait()
	defer close(stop)
	kept := 0
	for range 30 {
		q, err := host.Quote(t.Context(), [3]byte{0xff, 0xff, 0}, nil)
		if err != nil {
			if e, ok := errors.AsType[*tpm2collect.Error](err); !ok || e.Fix == "" {
				t.Fatal(err)
			}
			continue // gave up, and said so: never a pair that does not fit
		}
		kept++
		h := sha256.New()
		for i := range 16 {
			h.Write(q.PCRs[i])
		}
		if !bytes.Equal(h.Sum(nil), pcrDigest(t, q.Attest)) {
			t.Fatal("values and quote do not belong together")
		}
	}
	t.Logf("%d of 30 quotes settled", kept)
}

func TestContextEndsAnOperation(t *testing.T) {
	host := startTPM(t, "").open(t, tpm2collect.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := host.Quote(ctx, [3]byte{1}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := host.Quote(t.Context(), [3]byte{1}, nil); err != nil {
		t.Errorf("the next operation: %v", err)
	}
}

// TestReadLogs: of the firmware and of systemd's userspace.
func TestReadLogs(t *testing.T) {
	t.Run("firmware", func(t *testing.T) { testReadLog(t, tpm2collect.ReadEventLog) })
	t.Run("userspace", func(t *testing.T) {
		testReadLog(t, tpm2collect.ReadUserspaceLog)
		path := filepath.Join(t.TempDir(), "log")
		writeFile(t, path, []byte("{}\n{\"pcr\":"))
		if log, err := tpm2collect.ReadUserspaceLog(path); string(log) != "{}\n" || err != nil {
			t.Errorf("a line that is being written: %q, %v", log, err)
		}
	})
}

func testReadLog(t *testing.T, read func(string) ([]byte, error)) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	t.Run("absent_is_none", func(t *testing.T) {
		if log, err := read(path); log != nil || err != nil {
			t.Errorf("got %d bytes, %v", len(log), err)
		}
	})
	t.Run("at_the_limit", func(t *testing.T) {
		writeFile(t, path, bytes.Repeat([]byte("\n"), tpm2collect.MaxEventLog))
		if log, err := read(path); len(log) != tpm2collect.MaxEventLog || err != nil {
			t.Errorf("got %d bytes, %v", len(log), err)
		}
	})
	t.Run("above_the_limit", func(t *testing.T) {
		writeFile(t, path, make([]byte, tpm2collect.MaxEventLog+1))
		if _, err := read(path); err == nil {
			t.Error("accepted")
		}
	})
}
