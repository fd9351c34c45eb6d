package eventlog

// Event types (TCG PC Client Platform Firmware Profile 1.06, section 10.4.1). A
// type is not covered by a digest: whoever sends a log can change it.
const (
	TypePrebootCert           uint32 = 0x00000000
	TypePostCode              uint32 = 0x00000001
	TypeUnused                uint32 = 0x00000002
	TypeNoAction              uint32 = 0x00000003
	TypeSeparator             uint32 = 0x00000004
	TypeAction                uint32 = 0x00000005
	TypeEventTag              uint32 = 0x00000006
	TypeSCRTMContents         uint32 = 0x00000007
	TypeSCRTMVersion          uint32 = 0x00000008
	TypeCPUMicrocode          uint32 = 0x00000009
	TypePlatformConfigFlags   uint32 = 0x0000000A
	TypeTableOfDevices        uint32 = 0x0000000B
	TypeCompactHash           uint32 = 0x0000000C
	TypeIPL                   uint32 = 0x0000000D
	TypeIPLPartitionData      uint32 = 0x0000000E
	TypeNonhostCode           uint32 = 0x0000000F
	TypeNonhostConfig         uint32 = 0x00000010
	TypeNonhostInfo           uint32 = 0x00000011
	TypeOmitBootDeviceEvents  uint32 = 0x00000012
	TypeVariableDriverConfig  uint32 = 0x80000001
	TypeVariableBoot          uint32 = 0x80000002
	TypeBootServicesApp       uint32 = 0x80000003
	TypeBootServicesDriver    uint32 = 0x80000004
	TypeRuntimeServicesDriver uint32 = 0x80000005
	TypeGPTEvent              uint32 = 0x80000006
	TypeEFIAction             uint32 = 0x80000007
	TypePlatformFirmwareBlob  uint32 = 0x80000008
	TypeHandoffTables         uint32 = 0x80000009
	TypePlatformFirmwareBlob2 uint32 = 0x8000000A
	TypeHandoffTables2        uint32 = 0x8000000B
	TypeVariableBoot2         uint32 = 0x8000000C
	TypeHCRTMEvent            uint32 = 0x80000010
	TypeVariableAuthority     uint32 = 0x800000E0
	TypeSPDMFirmwareBlob      uint32 = 0x800000E1
	TypeSPDMFirmwareConfig    uint32 = 0x800000E2
)

// Event data that decides something, byte for byte.
const (
	callingEFIApp            = "Calling EFI Application from Boot Option"
	startupLocalitySignature = "StartupLocality\x00"
	secureBootName           = "SecureBoot"
	separatorZeros           = "\x00\x00\x00\x00"
	separatorOnes            = "\xff\xff\xff\xff"
)

// knownSize returns the digest size in bytes of an algorithm of the TCG Algorithm
// Registry, 0 for one that is not known here. A Spec ID record that gives one of
// these another size is refused.
func knownSize(alg uint16) int {
	switch alg {
	case uint16(SHA1):
		return 20
	case uint16(SHA256), 0x0012, 0x0027: // SHA-256, SM3-256, SHA3-256
		return 32
	case uint16(SHA384), 0x0028: // SHA-384, SHA3-384
		return 48
	case 0x000D, 0x0029: // SHA-512, SHA3-512
		return 64
	}
	return 0
}
