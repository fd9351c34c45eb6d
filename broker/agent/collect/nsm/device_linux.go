package nsm

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
)

// nsmRequest is _IOWR(0x0A, 0, struct nsm_message) of the driver
// (aws-nitro-enclaves-nsm-api, nsm-driver): two iovecs, 32 bytes.
const nsmRequest = 3<<30 | 32<<16 | 0x0A<<8

// message is struct nsm_message; the driver writes the length of the answer.
type message struct{ request, response unix.Iovec }

// Driver is the module behind the kernel's device.
type Driver struct {
	// Root is put before Device; "" is the running system.
	Root string
}

// Ask sends one request.
func (d Driver) Ask(_ context.Context, request []byte) ([]byte, error) {
	path := collect.File(d.Root, Device)
	device, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		e := &collect.Error{What: "open " + path, Why: err.Error(), Err: err}
		if collect.IsDenied(err) {
			e.Fix = "run as root, or let this user read and write the device"
		}
		return nil, e
	}
	defer device.Close()
	answer := make([]byte, maxAnswer)
	var pins runtime.Pinner // the kernel gets addresses inside a structure
	defer pins.Unpin()
	pins.Pin(&request[0])
	pins.Pin(&answer[0])
	var m message
	m.request.Base, m.response.Base = &request[0], &answer[0]
	m.request.SetLen(len(request))
	m.response.SetLen(len(answer))
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, device.Fd(), nsmRequest, uintptr(unsafe.Pointer(&m))); errno != 0 {
		return nil, &collect.Error{What: "ask the Nitro Security Module", Why: errno.Error(), Err: errno}
	}
	if m.response.Len > maxAnswer {
		return nil, fmt.Errorf("ask the Nitro Security Module: an answer of %d bytes", m.response.Len)
	}
	return answer[:m.response.Len], nil
}
