package tpm2collect

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"
)

const (
	headerSize  = 10      // tag, size, code: part 1, 18.2
	maxResponse = 4 << 10 // no TPM answers with more (TPM_PT_MAX_RESPONSE_SIZE)

	// A command may be asked for again while the TPM writes its counters or
	// tests itself. Real ones take up to two seconds; ten covers the slow ones.
	retryFirst   = 2 * time.Millisecond
	retryLongest = 500 * time.Millisecond
	retryFor     = 10 * time.Second

	// commandTime bounds one command: a first RSA key takes a slow chip 30 s.
	commandTime = 90 * time.Second
)

// link sends one command to a TPM and returns one response.
type link interface {
	send(ctx context.Context, command []byte) ([]byte, error)
	close() error
	// managed reports whether a resource manager swaps objects of several users.
	managed() bool
}

// openLink understands "/dev/tpmrm0" and "swtpm:/path/of/socket".
func openLink(device string) (link, error) {
	if path, ok := strings.CutPrefix(device, "swtpm:"); ok {
		info, err := os.Stat(path)
		if err != nil {
			return nil, deviceError(device, err)
		}
		if info.Mode()&fs.ModeSocket == 0 {
			return nil, &Error{What: "open " + device, Why: "it is not a socket", Fix: "name the server socket of swtpm: --server type=unixio,path=…"}
		}
		return socketLink{path: path}, nil
	}
	file, err := linuxtpm.Open(device)
	if err != nil {
		return nil, deviceError(device, err)
	}
	return &deviceLink{tpm: file}, nil
}

func deviceError(device string, err error) error {
	e := &Error{What: "open " + device, Why: err.Error(), err: err}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.Why = "there is no such TPM"
		e.Fix = "enable the TPM in the firmware setup, or name another one: --tpm /dev/tpmrm0 or --tpm swtpm:SOCKET"
	case errors.Is(err, fs.ErrPermission):
		e.Why = "this user may not use the TPM"
		e.Fix = "run as root, or join the group that owns the device (tss on most systems)"
	case errors.Is(err, linuxtpm.ErrFileIsNotDevice):
		e.Why = "it is not a device"
		e.Fix = "for a software TPM write --tpm swtpm:" + device
	}
	return e
}

// socketLink speaks to swtpm over its Unix socket, one connection a command:
// swtpm serves one connection at a time, and a kept one would lock out the
// tools of whoever looks at the same TPM.
type socketLink struct{ path string }

func (socketLink) managed() bool { return false }
func (socketLink) close() error  { return nil }

func (l socketLink) send(ctx context.Context, command []byte) ([]byte, error) {
	conn, err := l.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Write(command); err != nil {
		return nil, cutShort(ctx, err)
	}
	var header [headerSize]byte
	if _, err := io.ReadFull(conn, header[:]); err != nil {
		return nil, cutShort(ctx, err)
	}
	size := binary.BigEndian.Uint32(header[2:6])
	if size < headerSize || size > maxResponse {
		return nil, fmt.Errorf("tpm response of %d bytes", size)
	}
	response := make([]byte, size)
	copy(response, header[:])
	if _, err := io.ReadFull(conn, response[headerSize:]); err != nil {
		return nil, cutShort(ctx, err)
	}
	return response, nil
}

// connect waits for room in the socket's queue, which holds one: the kernel
// refuses the next at once with EAGAIN, where it would block on other sockets.
func (l socketLink) connect(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	tick := time.NewTicker(retryFirst)
	defer tick.Stop()
	for {
		conn, err := d.DialContext(ctx, "unix", l.path)
		if err == nil {
			return conn, nil
		}
		if !errors.Is(err, syscall.EAGAIN) {
			return nil, cutShort(ctx, deviceError("swtpm:"+l.path, err))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, &Error{
				What: "open swtpm:" + l.path, Why: "another program holds the socket of the software TPM",
				Fix: "end the other program; one connection at a time is served", err: context.Cause(ctx),
			}
		}
	}
}

// cutShort prefers the reason of the context over the broken pipe it caused.
func cutShort(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return fmt.Errorf("talk to the software TPM: %w", err)
}

// deviceLink speaks to a kernel device. The kernel gives no way to take a
// command back, so a caller that gives up leaves it running; the link is then
// unusable, because the next answer would belong to the old question.
type deviceLink struct {
	tpm  transport.TPMCloser
	lost bool // only touched under the lock of TPM
}

func (*deviceLink) managed() bool  { return true }
func (l *deviceLink) close() error { return l.tpm.Close() }

func (l *deviceLink) send(ctx context.Context, command []byte) ([]byte, error) {
	if l.lost {
		return nil, errors.New("the TPM was given up on in the middle of a command")
	}
	type answer struct {
		response []byte
		err      error
	}
	done := make(chan answer, 1)
	go func() {
		response, err := l.tpm.Send(command)
		done <- answer{response, err}
	}()
	select {
	case a := <-done:
		// go-tpm gives up on a busy TPM with neither response nor error.
		if a.err == nil && len(a.response) < headerSize {
			return nil, tpm2.TPMRCRetry
		}
		return a.response, a.err
	case <-ctx.Done():
		l.lost = true
		return nil, context.Cause(ctx)
	}
}

// caller lends a link to go-tpm for the commands of one operation. It carries
// the context because go-tpm's interface has no place for one; it lives no
// longer than the operation.
type caller struct {
	ctx  context.Context
	link link
}

// Send sends the command again while the TPM asks for that: go-tpm does not,
// and a key under dictionary-attack protection answers its first use after a
// start with TPM_RC_RETRY. A response with an error code leaves the nonces of
// sessions alone, so the same bytes stay valid.
func (c caller) Send(command []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(c.ctx, commandTime, errors.New("the TPM did not answer in time"))
	defer cancel()
	wait, patience := retryFirst, time.Now().Add(retryFor)
	for {
		response, err := c.link.send(ctx, command)
		if err != nil {
			return nil, err
		}
		if !again(response) || time.Now().After(patience) {
			return response, nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, context.Cause(ctx)
		}
		wait = min(2*wait, retryLongest)
	}
}

// again reports the three warnings that mean "the same command, a little later".
func again(response []byte) bool {
	if len(response) < headerSize {
		return false
	}
	switch tpm2.TPMRC(binary.BigEndian.Uint32(response[6:10])) {
	case tpm2.TPMRCRetry, tpm2.TPMRCYielded, tpm2.TPMRCTesting:
		return true
	}
	return false
}

// Present says whether there is something at a device, or at the default one
// where it is "". Whether it works only opening it tells.
func Present(device string) bool {
	if device == "" {
		device = DefaultDevice
	}
	_, err := os.Stat(strings.TrimPrefix(device, "swtpm:"))
	return !errors.Is(err, fs.ErrNotExist)
}
