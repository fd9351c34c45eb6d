package snp

import "fmt"

// TCB is a TCB_VERSION (56860, section 2.2), the security version of each part of
// a platform's firmware.
type TCB struct {
	Bootloader, TEE, SNP, Microcode uint8
	FMC                             uint8 // Turin only
}

// decodeTCB reads the eight bytes by the layout of a product. What the layout
// leaves over has to be zero.
func decodeTCB(p Product, v uint64) (TCB, bool) {
	b := func(i int) uint8 { return uint8(v >> (8 * i)) }
	if p == Turin {
		return TCB{FMC: b(0), Bootloader: b(1), TEE: b(2), SNP: b(3), Microcode: b(7)}, v>>32&0xffffff == 0
	}
	return TCB{Bootloader: b(0), TEE: b(1), SNP: b(6), Microcode: b(7)}, v>>16&0xffffffff == 0
}

func (t TCB) parts() [5]uint8 { return [5]uint8{t.FMC, t.Bootloader, t.TEE, t.SNP, t.Microcode} }

// reaches reports whether no part of t is below that of floor.
func (t TCB) reaches(floor TCB) bool {
	for i, part := range t.parts() {
		if part < floor.parts()[i] {
			return false
		}
	}
	return true
}

// String lists the parts.
func (t TCB) String() string {
	return fmt.Sprintf("fmc %d, bootloader %d, tee %d, snp %d, microcode %d", t.FMC, t.Bootloader, t.TEE, t.SNP, t.Microcode)
}

// level is what is known of a product's security versions.
type level struct {
	// floor is the lowest reported TCB that default policy takes: below it lies what
	// no public cloud is known to have run in production. It is no statement that
	// the floor has no known holes; zones set higher minimums.
	floor TCB
	// advised is the lowest TCB that AMD's bulletins still name as mitigated, as far
	// as one was found; a report below it is noted.
	advised  TCB
	bulletin string
}

// levels by product. Milan's floor is the TCB of SEV firmware 1.52.4, the oldest
// that reports of public clouds carry (Azure and AWS, 2023); older samples are of
// pre-production firmware 1.49. For Genoa and Turin no such bound is known, and
// the floor is zero. AMD-SB-3019 (February 2025, CVE-2024-56161, EntrySign) wants
// SNP 24 on Milan and 23 on Genoa; microcode 219 is what comes with it on Milan.
var levels = map[Product]level{
	Milan: {
		floor:    TCB{Bootloader: 3, TEE: 0, SNP: 8, Microcode: 115},
		advised:  TCB{Bootloader: 4, TEE: 0, SNP: 24, Microcode: 219},
		bulletin: "AMD-SB-3019",
	},
	Genoa: {advised: TCB{SNP: 23}, bulletin: "AMD-SB-3019"},
	Turin: {},
}
