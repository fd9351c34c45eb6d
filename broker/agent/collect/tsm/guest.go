package tsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
)

// guestDevice is the kernel's older way to a SEV-SNP report.
const guestDevice = "/dev/sev-guest"

// Of include/uapi/linux/sev-guest.h.
const (
	messageVersion = 1
	getExtReport   = 3<<30 | 32<<16 | 'S'<<8 | 2 // _IOWR('S', 2, struct snp_guest_request_ioctl)

	responseSize = 4000 // struct snp_report_resp
	reportOffset = 0x20 // of the report in MSG_REPORT_RSP: status, size, 24 reserved bytes
	reportSize   = 1184
	tableSize    = 16 << 10 // SNP_REPORT's certificates; the kernel takes whole pages
)

// Guest is the device behind which the processor is asked.
type Guest interface {
	Present() bool
	// Report returns report and certificate table.
	Report(data [64]byte) (report, table []byte, err error)
}

// Device is the kernel's device.
type Device struct {
	// Root is put before the path; "" is the running system.
	Root string
}

// extRequest is struct snp_ext_report_req.
type extRequest struct {
	data    [64]byte
	vmpl    uint32
	_       [28]byte
	address uint64
	length  uint32
	_       uint32
}

// guestRequest is struct snp_guest_request_ioctl.
type guestRequest struct {
	version  uint8
	_        [7]byte
	request  uint64
	response uint64
	exit     uint64
}

// Present says whether there is such a device.
func (d Device) Present() bool { return collect.Exists(collect.File(d.Root, guestDevice)) }

// Report asks for an extended report.
func (d Device) Report(data [64]byte) ([]byte, []byte, error) {
	path := collect.File(d.Root, guestDevice)
	device, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		e := &collect.Error{What: "open " + path, Why: err.Error(), Err: err}
		if collect.IsDenied(err) {
			e.Fix = "run as root"
		}
		return nil, nil, e
	}
	defer device.Close()
	table, response := make([]byte, tableSize), make([]byte, responseSize)
	request := &extRequest{data: data, length: tableSize}
	var pins runtime.Pinner // the kernel gets addresses inside structures
	defer pins.Unpin()
	pins.Pin(&table[0])
	pins.Pin(&response[0])
	pins.Pin(request)
	request.address = uint64(uintptr(unsafe.Pointer(&table[0])))
	message := guestRequest{
		version: messageVersion,
		request: uint64(uintptr(unsafe.Pointer(request))), response: uint64(uintptr(unsafe.Pointer(&response[0]))),
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, device.Fd(), getExtReport, uintptr(unsafe.Pointer(&message))); errno != 0 {
		why := fmt.Sprintf("%v (firmware and host said %#x)", errno, message.exit)
		return nil, nil, &collect.Error{What: "ask " + guestDevice + " for a report", Why: why, Err: errno}
	}
	report, err := reportIn(response)
	return report, table[:min(request.length, tableSize)], err
}

// reportIn takes the report out of MSG_REPORT_RSP.
func reportIn(response []byte) ([]byte, error) {
	if len(response) < reportOffset+reportSize {
		return nil, errors.New("ask " + guestDevice + " for a report: the answer is too short")
	}
	if status := binary.LittleEndian.Uint32(response); status != 0 {
		return nil, fmt.Errorf("ask %s for a report: the firmware answered with status %#x", guestDevice, status)
	}
	if size := binary.LittleEndian.Uint32(response[4:]); size != reportSize {
		return nil, fmt.Errorf("ask %s for a report: a report of %d bytes", guestDevice, size)
	}
	return response[reportOffset : reportOffset+reportSize], nil
}
