package tpm2collect_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	tpm2collect "github.com/zonebroker/zonebroker/broker/agent/collect/tpm2"
)

// TestManyUsersOfOneSocket: swtpm serves one connection at a time and lets one
// wait; the others must wait too instead of failing.
func TestManyUsersOfOneSocket(t *testing.T) {
	tpm := startTPM(t, "")
	host := tpm.open(t, tpm2collect.Config{})
	if _, err := host.AK(t.Context()); err != nil {
		t.Fatal(err)
	}
	var users sync.WaitGroup
	for range 12 {
		users.Go(func() {
			for range 5 {
				other, err := holdSocket(t, tpm)
				if err != nil {
					t.Error(err)
					return
				}
				other.Close()
			}
		})
	}
	for range 10 {
		if _, err := host.Quote(t.Context(), [3]byte{1}, nil); err != nil {
			t.Error(err)
		}
	}
	users.Wait()
}

// holdSocket holds the socket for a moment as a slow program does.
func holdSocket(t *testing.T, tpm *software) (net.Conn, error) {
	t.Helper()
	for {
		conn, err := net.Dial("unix", tpm.socket)
		if errors.Is(err, syscall.EAGAIN) {
			time.Sleep(time.Millisecond)
			continue
		}
		if err == nil {
			time.Sleep(3 * time.Millisecond)
		}
		return conn, err
	}
}

func TestHeldSocketEndsWithTheContext(t *testing.T) {
	tpm := startTPM(t, "")
	host := tpm.open(t, tpm2collect.Config{})
	conn, err := net.Dial("unix", tpm.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := host.AK(ctx); err == nil {
		t.Error("answered")
	}
	conn.Close()
	if _, err := host.AK(t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestPowerLoss: after some hard stops a TPM is in lockout for keys under
// dictionary-attack protection; ours are not, and the retries are taken.
func TestPowerLoss(t *testing.T) {
	tpm := startTPM(t, "")
	for i := range 5 {
		host := tpm.open(t, tpm2collect.Config{EK: tpm2collect.P256})
		ek := mustEK(t, host)
		ak, err := host.AK(t.Context())
		if err != nil {
			t.Fatalf("start %d: %v", i, err)
		}
		blob, secret := credential(t, ek, ak.Name, make([]byte, 32))
		if _, err := host.Activate(t.Context(), blob, secret); err != nil {
			t.Fatalf("start %d: %v", i, err)
		}
		if _, err := host.Certify(t.Context(), nil); err != nil {
			t.Fatalf("start %d: %v", i, err)
		}
		tpm.kill()
		tpm = startTPM(t, tpm.dir)
	}
}

func TestShutdownInOrder(t *testing.T) {
	tpm := startTPM(t, "")
	host := tpm.open(t, tpm2collect.Config{})
	q, err := host.Quote(t.Context(), [3]byte{1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	tpm.kill()
	tpm = startTPM(t, tpm.dir)
	after, err := tpm.open(t, tpm2collect.Config{}).Quote(t.Context(), [3]byte{1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if after.ResetCount != q.ResetCount+1 {
		t.Errorf("reset count %d after %d", after.ResetCount, q.ResetCount)
	}
}

func TestOpenSaysWhatToDo(t *testing.T) {
	for name, cfg := range map[string]tpm2collect.Config{
		"absent_device": {Device: "/nonexistent/tpmrm0"},
		"absent_socket": {Device: "swtpm:/nonexistent/socket"},
		"file":          {Device: "swtpm:/etc/passwd"},
		"no_device":     {Device: "/etc/passwd"},
		"unknown_ak":    {Device: "/dev/null", AK: "dsa"},
		"unknown_ek":    {Device: "/dev/null", EK: "dsa"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tpm2collect.Open(t.Context(), cfg)
			e, ok := errors.AsType[*tpm2collect.Error](err)
			if !ok || e.Fix == "" || e.Why == "" {
				t.Errorf("got %#v", err)
			}
		})
	}
}
