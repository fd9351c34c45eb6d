package swtpm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// Commands of the control channel (swtpm_ioctls(3)), big-endian.
const (
	cmdGetCapability uint32 = 1
	cmdInit          uint32 = 2
	cmdShutdown      uint32 = 3
	cmdSetLocality   uint32 = 5
	cmdHashStart     uint32 = 6
	cmdHashData      uint32 = 7
	cmdHashEnd       uint32 = 8

	// initDeleteVolatile makes CMD_INIT a cold start even where volatile state was
	// stored.
	initDeleteVolatile uint32 = 1
)

// command sends one command on the control channel and reads its result. The
// channel serves one connection at a time too, so none is kept.
func (t *TPM) command(ctx context.Context, code uint32, payload []byte) error {
	c, err := dial(ctx, t.control())
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write(append(binary.BigEndian.AppendUint32(nil, code), payload...)); err != nil {
		return err
	}
	if code == cmdGetCapability { // answers with 64 bits of capabilities and no result
		_, err := io.ReadFull(c, make([]byte, 8))
		return err
	}
	var result [4]byte
	if _, err := io.ReadFull(c, result[:]); err != nil {
		return err
	}
	if rc := binary.BigEndian.Uint32(result[:]); rc != 0 {
		return fmt.Errorf("control command %d: result 0x%x", code, rc)
	}
	return nil
}

// conn is one connection on the data socket; it is a transport of go-tpm.
type conn struct {
	net.Conn
	stop func() bool
}

// open connects to the TPM. Only one connection is served at a time, so the
// first exchange waits for whoever holds the TPM.
func (t *TPM) open(ctx context.Context) (*conn, error) {
	c, err := dial(ctx, t.socket)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, stop: context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })}, nil
}

func dial(ctx context.Context, path string) (net.Conn, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(commandTimeout)
	}
	c, err := connect(ctx, path, deadline)
	if err != nil {
		return nil, err
	}
	if err := c.SetDeadline(deadline); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// connect waits for room in the queue of the socket: swtpm lets one connection
// wait, and the kernel refuses the next at once with EAGAIN instead of blocking.
func connect(ctx context.Context, path string, deadline time.Time) (net.Conn, error) {
	d := net.Dialer{Deadline: deadline}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := d.DialContext(ctx, "unix", path)
		if !errors.Is(err, syscall.EAGAIN) || time.Now().After(deadline) {
			return c, busy(err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, busy(context.Cause(ctx))
		}
	}
}

// Close ends the connection; the TPM goes on.
func (c *conn) Close() error {
	c.stop()
	return c.Conn.Close()
}

// Send implements transport.TPM.
func (c *conn) Send(command []byte) ([]byte, error) {
	if _, err := c.Write(command); err != nil {
		return nil, err
	}
	const header, limit = 10, 64 << 10
	answer := make([]byte, header)
	if _, err := io.ReadFull(c, answer); err != nil {
		return nil, busy(err)
	}
	size := binary.BigEndian.Uint32(answer[2:])
	if size < header || size > limit {
		return nil, fmt.Errorf("TPM response of %d bytes", size)
	}
	answer = append(answer, make([]byte, size-header)...)
	if _, err := io.ReadFull(c, answer[header:]); err != nil {
		return nil, err
	}
	return answer, nil
}

// busy names the usual cause of a TPM that does not answer.
func busy(err error) error {
	if err == nil {
		return nil
	}
	ne, ok := errors.AsType[net.Error](err)
	if ok && ne.Timeout() || errors.Is(err, syscall.EAGAIN) {
		return fmt.Errorf("no answer in time: another client may hold the TPM's socket: %w", err)
	}
	return err
}

// retried runs a command again while the TPM answers TPM_RC_RETRY, which
// go-tpm hands to its caller.
func retried[R any](ctx context.Context, run func() (R, error)) (R, error) {
	for {
		r, err := run()
		if !errors.Is(err, tpm2.TPMRCRetry) || ctx.Err() != nil {
			return r, err
		}
	}
}
