package ima_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/ima"
	"github.com/zonebroker/zonebroker/verifier/ima/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

var boot = ima.Boot{Resets: 7, Restarts: 1}

// firmware is PCR 0 to 9 of a machine.
func firmware() map[int][]byte {
	out := map[int][]byte{}
	for i := range 10 {
		h := sha256.Sum256([]byte{byte(i)})
		out[i] = h[:]
	}
	return out
}

// machine is a list with n files behind the boot aggregate.
func machine(n int) *build.List {
	entries := []build.Entry{build.Aggregate(firmware())}
	for i := range n {
		path := fmt.Sprintf("/usr/lib/x86_64-linux-gnu/lib%06d.so", i)
		entries = append(entries, build.File(path, []byte(path)))
	}
	return build.New(entries...)
}

// quoted is what a TPM would quote after these extends.
func quoted(extends [][32]byte) ima.Quoted {
	q := ima.Quoted{Bank: ima.SHA256, PCRs: firmware()}
	q.PCRs[10] = build.PCR10(extends)
	return q
}

func attest(t *testing.T, raw []byte, q ima.Quoted) ima.Attested {
	t.Helper()
	a, err := ima.Attest(ima.Segment{Raw: raw}, ima.State{}, boot, q)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func wantCode(t *testing.T, err error, code reason.Code) {
	t.Helper()
	if reason.Of(err) != code {
		t.Errorf("%v, want %s", err, code)
	}
}

// with returns the list with one entry changed.
func with(l *build.List, i int, change func(*build.Entry)) *build.List {
	entries := l.Entries()
	change(&entries[i])
	return build.New(entries...)
}

func put32(raw []byte, at int, v uint32) []byte {
	out := bytes.Clone(raw)
	binary.LittleEndian.PutUint32(out[at:], v)
	return out
}

func file(fields ...[]byte) build.Entry { return build.Measured("ima-ng", build.Fields(fields...)) }
