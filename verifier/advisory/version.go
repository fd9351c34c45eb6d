package advisory

import (
	"fmt"
	"strconv"
	"strings"
)

// Version is TPMS_ATTEST.firmwareVersion: TPM_PT_FIRMWARE_VERSION_1 and _2, the
// first in the upper 32 bits. What it means is the maker's business; all that are
// listed here write four 16-bit numbers, of which the first two are the version
// in their release notes ("7.85", "73.20") and Nuvoton and Intel use all four.
type Version uint64

// ParseVersion reads one to four decimal numbers below 65536 joined by dots, the
// missing ones being 0, or 0x and 16 hex digits.
func ParseVersion(s string) (Version, error) {
	if digits, ok := strings.CutPrefix(s, "0x"); ok {
		n, err := strconv.ParseUint(digits, 16, 64)
		if err != nil || len(digits) != 16 {
			return 0, fmt.Errorf("firmware version %q is not 0x and 16 hex digits", s)
		}
		return Version(n), nil
	}
	parts := strings.Split(s, ".")
	if len(parts) > 4 {
		return 0, fmt.Errorf("firmware version %q has more than four numbers", s)
	}
	var v Version
	for i := range 4 {
		var n uint64
		if i < len(parts) {
			var err error
			if n, err = strconv.ParseUint(parts[i], 10, 16); err != nil {
				return 0, fmt.Errorf("firmware version %q is not numbers below 65536 joined by dots", s)
			}
		}
		v = v<<16 | Version(n)
	}
	return v, nil
}

// String writes four decimal numbers joined by dots.
func (v Version) String() string {
	return fmt.Sprintf("%d.%d.%d.%d", uint16(v>>48), uint16(v>>32), uint16(v>>16), uint16(v))
}
