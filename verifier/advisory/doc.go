// Package advisory knows which TPMs have a published flaw: by maker and firmware
// version, what the source says, and what that costs a machine by default (a
// denial, or a highest tier). A zone can leave single advisories aside.
//
// It trusts its caller that maker and kind come from a verified EK certificate
// and the firmware version from a quote of a key in the endorsement hierarchy:
// of other keys the TPM obfuscates it (TPM 2.0 Library, part 1, 36.7).
package advisory
