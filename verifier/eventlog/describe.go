package eventlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf16"
)

// maxDescription bounds a description in bytes: GRUB logs whole menu entries.
const maxDescription = 200

// typeNames are the names of the profile, section 10.4.1.
var typeNames = map[uint32]string{
	TypePrebootCert:           "EV_PREBOOT_CERT",
	TypePostCode:              "EV_POST_CODE",
	TypeUnused:                "EV_UNUSED",
	TypeNoAction:              "EV_NO_ACTION",
	TypeSeparator:             "EV_SEPARATOR",
	TypeAction:                "EV_ACTION",
	TypeEventTag:              "EV_EVENT_TAG",
	TypeSCRTMContents:         "EV_S_CRTM_CONTENTS",
	TypeSCRTMVersion:          "EV_S_CRTM_VERSION",
	TypeCPUMicrocode:          "EV_CPU_MICROCODE",
	TypePlatformConfigFlags:   "EV_PLATFORM_CONFIG_FLAGS",
	TypeTableOfDevices:        "EV_TABLE_OF_DEVICES",
	TypeCompactHash:           "EV_COMPACT_HASH",
	TypeIPL:                   "EV_IPL",
	TypeIPLPartitionData:      "EV_IPL_PARTITION_DATA",
	TypeNonhostCode:           "EV_NONHOST_CODE",
	TypeNonhostConfig:         "EV_NONHOST_CONFIG",
	TypeNonhostInfo:           "EV_NONHOST_INFO",
	TypeOmitBootDeviceEvents:  "EV_OMIT_BOOT_DEVICE_EVENTS",
	TypeVariableDriverConfig:  "EV_EFI_VARIABLE_DRIVER_CONFIG",
	TypeVariableBoot:          "EV_EFI_VARIABLE_BOOT",
	TypeBootServicesApp:       "EV_EFI_BOOT_SERVICES_APPLICATION",
	TypeBootServicesDriver:    "EV_EFI_BOOT_SERVICES_DRIVER",
	TypeRuntimeServicesDriver: "EV_EFI_RUNTIME_SERVICES_DRIVER",
	TypeGPTEvent:              "EV_EFI_GPT_EVENT",
	TypeEFIAction:             "EV_EFI_ACTION",
	TypePlatformFirmwareBlob:  "EV_EFI_PLATFORM_FIRMWARE_BLOB",
	TypeHandoffTables:         "EV_EFI_HANDOFF_TABLES",
	TypePlatformFirmwareBlob2: "EV_EFI_PLATFORM_FIRMWARE_BLOB2",
	TypeHandoffTables2:        "EV_EFI_HANDOFF_TABLES2",
	TypeVariableBoot2:         "EV_EFI_VARIABLE_BOOT2",
	TypeHCRTMEvent:            "EV_EFI_HCRTM_EVENT",
	TypeVariableAuthority:     "EV_EFI_VARIABLE_AUTHORITY",
	TypeSPDMFirmwareBlob:      "EV_EFI_SPDM_FIRMWARE_BLOB",
	TypeSPDMFirmwareConfig:    "EV_EFI_SPDM_FIRMWARE_CONFIG",
}

// TypeName returns the profile's name of the event's type, the number in hex
// for one that has none. Like the type itself it is a claim of the sender.
func (e Event) TypeName() string {
	if name, ok := typeNames[e.Type]; ok {
		return name
	}
	return fmt.Sprintf("0x%08X", e.Type)
}

// Describe tells a person what the event says it measured: the path of an image
// or file, a command line, the name of a variable. It is a claim of the sender,
// because most digests do not cover the data: it helps to find the cause, and
// decides nothing. At most 200 bytes of printable ASCII, "" where nothing is
// known; what else the data holds becomes a question mark.
func (e Event) Describe() string {
	switch e.Type {
	case TypeIPL, TypeEFIAction, TypeAction, TypePostCode:
		text, _, _ := bytes.Cut(e.Data, []byte{0})
		return printable(string(text))
	case TypeSCRTMVersion:
		return printable(utf16Text(e.Data))
	case TypeBootServicesApp, TypeBootServicesDriver, TypeRuntimeServicesDriver:
		return printable(imagePath(e.Data))
	case TypeVariableDriverConfig, TypeVariableBoot, TypeVariableBoot2, TypeVariableAuthority:
		if v, ok := parseVariable(e.Data); ok {
			return printable("variable " + utf16Text(v.name))
		}
	case TypePlatformFirmwareBlob:
		if r := (reader{rest: e.Data}); len(e.Data) == 16 {
			base, size := r.u64(), r.u64()
			return fmt.Sprintf("firmware volume at 0x%x, %d bytes", base, size)
		}
	case TypeGPTEvent:
		return "partition table of the boot disk"
	case TypeSeparator:
		return "separator"
	}
	return ""
}

// imagePath returns the file in the device path of UEFI_IMAGE_LOAD_EVENT (TCG
// PFP 10.2.3; UEFI 2.10, 10.3.5.4), "" where it names none.
func imagePath(data []byte) string {
	r := reader{rest: data}
	r.take(3 * 8) // address, length, link-time address
	path := r.take(r.u64())
	if r.short {
		return ""
	}
	var out strings.Builder
	for len(path) >= 4 {
		size := int(binary.LittleEndian.Uint16(path[2:]))
		if size < 4 || size > len(path) {
			break
		}
		if path[0] == 0x04 && path[1] == 0x04 {
			out.WriteString(utf16Text(path[4:size]))
		}
		path = path[size:]
	}
	return out.String()
}

// utf16Text decodes UTF-16LE up to its closing zero, at most four bytes for each
// character that a description shows.
func utf16Text(raw []byte) string {
	size := min(len(raw), 4*(maxDescription+1))
	units := make([]uint16, 0, size/2)
	for rest := raw[:size]; len(rest) >= 2; rest = rest[2:] {
		u := binary.LittleEndian.Uint16(rest)
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units))
}

// printable keeps a log from writing to the terminal of whoever reads it.
func printable(s string) string {
	var out strings.Builder
	for _, c := range s {
		if out.Len() == maxDescription {
			break
		}
		if c < 0x20 || c > 0x7e {
			c = '?'
		}
		out.WriteRune(c)
	}
	return out.String()
}
