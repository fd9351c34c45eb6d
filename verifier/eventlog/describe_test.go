package eventlog_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
)

// TestDescribeNamesWhatWasMeasured, for every kind of event of a common boot.
func TestDescribeNamesWhatWasMeasured(t *testing.T) {
	log, err := eventlog.Parse(build.Machine{KernelVersion: "6.12.1", CommandLine: "ro"}.Log().Bytes())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, e := range log.Events() {
		got[e.TypeName()+" "+e.Describe()] = true
	}
	for _, want := range []string{
		"EV_S_CRTM_VERSION Zonebroker Virtual Firmware v1",
		"EV_EFI_PLATFORM_FIRMWARE_BLOB firmware volume at 0xff000000, 4096 bytes",
		"EV_EFI_VARIABLE_DRIVER_CONFIG variable SecureBoot",
		"EV_EFI_VARIABLE_BOOT variable BootOrder",
		"EV_EFI_VARIABLE_AUTHORITY variable Shim",
		"EV_EFI_ACTION Calling EFI Application from Boot Option",
		"EV_SEPARATOR separator",
		"EV_EFI_GPT_EVENT partition table of the boot disk",
		`EV_EFI_BOOT_SERVICES_APPLICATION \EFI\debian\shimx64.efi`,
		"EV_EFI_BOOT_SERVICES_APPLICATION /boot/vmlinuz-6.12.1",
		"EV_IPL /boot/initrd.img-6.12.1",
		"EV_IPL kernel_cmdline: /boot/vmlinuz-6.12.1 ro",
		"EV_NONHOST_INFO ",
	} {
		if !got[want] {
			t.Errorf("no event is described as %q", want)
		}
	}
}

// TestDescribeIsHarmless: what a log says of itself ends on a terminal.
func TestDescribeIsHarmless(t *testing.T) {
	le := binary.LittleEndian
	image := func(path ...byte) []byte {
		data := le.AppendUint64(make([]byte, 24), uint64(len(path)))
		return append(data, path...)
	}
	node := func(size int, text string) []byte {
		out := []byte{0x04, 0x04, byte(size), byte(size >> 8)}
		for _, c := range text {
			out = le.AppendUint16(out, uint16(c))
		}
		return out
	}
	for name, tc := range map[string]struct {
		typ  uint32
		data []byte
		want string
	}{
		"escape":            {eventlog.TypeIPL, []byte("a\x1b[31mb\nc\x00hidden"), "a?[31mb?c"},
		"not_ascii":         {eventlog.TypeIPL, []byte("caf\xc3\xa9\xff"), "caf??"},
		"long":              {eventlog.TypeIPL, []byte(strings.Repeat("x", 9000)), strings.Repeat("x", 200)},
		"empty":             {eventlog.TypeIPL, nil, ""},
		"odd_utf16":         {eventlog.TypeSCRTMVersion, []byte{'v', 0, '1', 0, 'x'}, "v1"},
		"lone_surrogate":    {eventlog.TypeSCRTMVersion, []byte{0x00, 0xd8}, "?"},
		"short_image":       {eventlog.TypeBootServicesApp, make([]byte, 31), ""},
		"path_past_the_end": {eventlog.TypeBootServicesApp, le.AppendUint64(make([]byte, 24), 1<<63), ""},
		"node_of_no_length": {eventlog.TypeBootServicesApp, image(node(0, "abc")...), ""},
		"node_past_the_end": {eventlog.TypeBootServicesApp, image(node(400, "abc")...), ""},
		"two_nodes":         {eventlog.TypeBootServicesDriver, image(append(node(8, "ab"), node(8, "cd")...)...), "abcd"},
		"node_of_no_path":   {eventlog.TypeBootServicesApp, image(append([]byte{1, 1, 4, 0}, node(6, "x")...)...), "x"},
		"not_of_media":      {eventlog.TypeBootServicesApp, image(append([]byte{1, 4, 6, 0, 'n', 0}, node(6, "x")...)...), "x"},
		"not_of_a_file":     {eventlog.TypeBootServicesApp, image(append([]byte{4, 1, 6, 0, 'n', 0}, node(6, "x")...)...), "x"},
		"surrogates":        {eventlog.TypeSCRTMVersion, bytes.Repeat([]byte{0x3d, 0xd8, 0x00, 0xde}, 300), strings.Repeat("?", 200)},
		"tilde":             {eventlog.TypeIPL, []byte("a~b\x7f"), "a~b?"},
		"other_node":        {eventlog.TypeRuntimeServicesDriver, image(append([]byte{1, 1, 6, 0, 9, 9}, node(6, "x")...)...), "x"},
		"variable_cut":      {eventlog.TypeVariableBoot, make([]byte, 20), ""},
		"blob_of_odd_size":  {eventlog.TypePlatformFirmwareBlob, make([]byte, 15), ""},
		"unknown":           {0x8000ffff, []byte("text"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, eventlog.Event{Type: tc.typ, Data: tc.data}.Describe()); diff != "" {
				t.Error(diff)
			}
		})
	}
	if got := (eventlog.Event{Type: 0x8000ffff}).TypeName(); got != "0x8000FFFF" {
		t.Errorf("an unknown type is %q", got)
	}
}

// FuzzDescribe: no log may crash or garble what reads it aloud.
func FuzzDescribe(f *testing.F) {
	for _, e := range (build.Machine{}).Log().Events() {
		f.Add(e.Type, e.Data)
	}
	f.Fuzz(func(t *testing.T, typ uint32, data []byte) {
		var got string
		evidencetest.Bounded(t, len(data), 64, func() { got = eventlog.Event{Type: typ, Data: data}.Describe() })
		if len(got) > 200 || strings.Trim(got, printableASCII) != "" {
			t.Errorf("described as %q", got)
		}
	})
}

var printableASCII = func() string {
	var b strings.Builder
	for c := byte(0x20); c < 0x7f; c++ {
		b.WriteByte(c)
	}
	return b.String()
}()
