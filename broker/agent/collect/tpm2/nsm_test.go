package tpm2collect_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-tpm/tpm2"

	tpm2collect "github.com/zonebroker/zonebroker/broker/agent/collect/tpm2"
)

// nitroTPM is a stand-in for Amazon's: NV indices with a password, the vendor
// string, and the vendor's command, which answers with what it read behind a mark.
// No real NitroTPM was asked.
type nitroTPM struct {
	mu      sync.Mutex
	vendor  string
	foreign map[uint32]bool // indices of others
	index   map[uint32]*nvIndex
	seen    []uint32 // command codes
	refuse  tpm2.TPMRC
	module  func(request []byte) []byte // answers; nil puts a mark before the request
}

type nvIndex struct {
	public   []byte // TPMS_NV_PUBLIC
	password string
	data     []byte
}

func startNitroTPM(t *testing.T) (*nitroTPM, string) {
	t.Helper()
	path := filepath.Join(stateDir(t), "tpm.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	n := &nitroTPM{vendor: "NitroTPM", index: map[uint32]*nvIndex{}, foreign: map[uint32]bool{}}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			n.serve(conn)
		}
	}()
	return n, "swtpm:" + path
}

func (n *nitroTPM) serve(conn net.Conn) {
	defer conn.Close()
	var header [10]byte
	if _, err := io.ReadFull(conn, header[:]); err != nil {
		return
	}
	body := make([]byte, binary.BigEndian.Uint32(header[2:])-10)
	if _, err := io.ReadFull(conn, body); err != nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	code := binary.BigEndian.Uint32(header[6:])
	n.seen = append(n.seen, code)
	conn.Write(n.answer(code, &reader{body}))
}

// reader takes fields off a command.
type reader struct{ left []byte }

func (r *reader) u32() uint32 {
	v := binary.BigEndian.Uint32(r.left)
	r.left = r.left[4:]
	return v
}

func (r *reader) u16() int {
	v := binary.BigEndian.Uint16(r.left)
	r.left = r.left[2:]
	return int(v)
}

func (r *reader) take(n int) []byte {
	v := r.left[:n]
	r.left = r.left[n:]
	return v
}

// password reads an authorisation area of one password session.
func (r *reader) password() string {
	area := &reader{r.take(int(r.u32()))}
	if area.u32() != 0x40000009 {
		return "no password session"
	}
	area.take(area.u16())
	area.take(1)
	return string(area.take(area.u16()))
}

func failed(rc tpm2.TPMRC) []byte {
	out := []byte{0x80, 0x01, 0, 0, 0, 10}
	return binary.BigEndian.AppendUint32(out, uint32(rc))
}

func plain(parameters []byte) []byte {
	out := binary.BigEndian.AppendUint32([]byte{0x80, 0x01}, uint32(10+len(parameters)))
	return append(append(out, 0, 0, 0, 0), parameters...)
}

// authorised is a response with the empty acknowledgement of a password session.
func authorised(parameters []byte) []byte {
	out := binary.BigEndian.AppendUint32([]byte{0x80, 0x02}, uint32(10+4+len(parameters)+5))
	out = append(out, 0, 0, 0, 0)
	out = binary.BigEndian.AppendUint32(out, uint32(len(parameters)))
	return append(append(out, parameters...), 0, 0, 1, 0, 0)
}

func tpm2b(data []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(data))), data...)
}

func (n *nitroTPM) answer(code uint32, r *reader) []byte {
	switch tpm2.TPMCC(code) {
	case tpm2.TPMCCGetCapability:
		r.u32()
		property := r.u32()
		at := int(property-uint32(tpm2.TPMPTVendorString1)) * 4
		value := make([]byte, 4)
		copy(value, (n.vendor + strings.Repeat("\x00", 8))[at:])
		out := append([]byte{0, 0, 0, 0, 6, 0, 0, 0, 1}, binary.BigEndian.AppendUint32(nil, property)...)
		return plain(append(out, value...))
	case tpm2.TPMCCNVDefineSpace:
		return n.define(r)
	case tpm2.TPMCCNVReadPublic:
		x := n.index[r.u32()]
		if x == nil {
			return failed(tpm2.TPMRCHandle)
		}
		name := sha256.Sum256(x.public)
		return plain(append(tpm2b(x.public), tpm2b(append([]byte{0, 0x0b}, name[:]...))...))
	case tpm2.TPMCCNVUndefineSpace:
		r.u32()
		delete(n.index, r.u32())
		return authorised(nil)
	}
	auth := r.u32()
	x := n.index[r.u32()]
	if x == nil || auth == 0 {
		return failed(tpm2.TPMRCHandle)
	}
	if r.password() != x.password {
		return failed(tpm2.TPMRCBadAuth)
	}
	switch {
	case tpm2.TPMCC(code) == tpm2.TPMCCNVWrite:
		data := r.take(r.u16())
		copy(x.data[r.u16():], data)
		return authorised(nil)
	case tpm2.TPMCC(code) == tpm2.TPMCCNVRead:
		size := r.u16()
		return authorised(tpm2b(x.data[r.u16():][:size]))
	case code == 0x20000001 && n.refuse == 0:
		if n.module == nil {
			copy(x.data, append([]byte("answer to "), x.data...))
		} else {
			copy(x.data, n.module(x.data))
		}
		return authorised(nil)
	case n.refuse != 0:
		return failed(n.refuse)
	}
	return failed(tpm2.TPMRCCommandCode)
}

func (n *nitroTPM) define(r *reader) []byte {
	r.u32() // the owner
	r.password()
	password := string(r.take(r.u16()))
	public := r.take(r.u16())
	index := binary.BigEndian.Uint32(public)
	if n.foreign[index] || n.index[index] != nil {
		return failed(tpm2.TPMRCNVDefined)
	}
	n.index[index] = &nvIndex{public: bytes.Clone(public), password: password, data: make([]byte, binary.BigEndian.Uint16(public[len(public)-2:]))}
	return authorised(nil)
}

func TestNitroTPMIsKnownByItsVendor(t *testing.T) {
	n, device := startNitroTPM(t)
	for _, want := range []string{"NitroTPM", "SW", ""} {
		n.vendor = want
		if got, err := tpm2collect.Vendor(t.Context(), device); err != nil || got != want {
			t.Errorf("%q, want %q: %v", got, want, err)
		}
	}
	real := startTPM(t, "")
	if got, err := tpm2collect.Vendor(t.Context(), real.device()); err != nil || !strings.HasPrefix(got, "SW") {
		t.Errorf("of a software TPM: %q, %v", got, err)
	}
}

func TestNitroTPMTakesRequestAndGivesAnswer(t *testing.T) {
	n, device := startNitroTPM(t)
	n.foreign[0x01800000], n.foreign[0x01800001] = true, true
	request := bytes.Repeat([]byte("request "), 100) // more than one command takes
	answer, err := tpm2collect.NSM(t.Context(), device, request)
	if err != nil || !bytes.HasPrefix(answer, append([]byte("answer to "), request...)) || len(answer) != 8<<10 {
		t.Errorf("%.40q of %d bytes, %v", answer, len(answer), err)
	}
	if len(n.index) != 0 {
		t.Errorf("%d indices are left behind", len(n.index))
	}
}

func TestNitroTPMThatRefuses(t *testing.T) {
	n, device := startNitroTPM(t)
	for rc, want := range map[tpm2.TPMRC]string{tpm2.TPMRCCommandCode: "no NitroTPM", tpm2.TPMRCFailure: "failure mode"} {
		n.refuse = rc
		if _, err := tpm2collect.NSM(t.Context(), device, []byte("request")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", rc, err)
		}
		if len(n.index) != 0 {
			t.Errorf("%v: %d indices are left behind", rc, len(n.index))
		}
	}
	for i := range uint32(64) {
		n.foreign[0x01800000+i] = true
	}
	if _, err := tpm2collect.NSM(t.Context(), device, []byte("request")); err == nil || !strings.Contains(err.Error(), "taken") {
		t.Errorf("%v", err)
	}
	// A software TPM knows neither the command nor an index of that size.
	if _, err := tpm2collect.NSM(t.Context(), startTPM(t, "").device(), []byte("request")); err == nil {
		t.Error("a software TPM answered")
	}
}
