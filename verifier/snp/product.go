package snp

import "strings"

// Product is a family of chips that one AMD root key certifies. The zero value is
// none.
type Product string

// Products whose reports are judged. Bergamo and Siena are Genoa here, as in their
// certificates.
const (
	Milan Product = "milan"
	Genoa Product = "genoa"
	Turin Product = "turin"
)

// Kind says which endorsement key signed a report.
type Kind string

const (
	// VCEK is the key of one chip at one TCB.
	VCEK Kind = "vcek"
	// VLEK is the key of one cloud provider at one TCB, on any of its chips.
	VLEK Kind = "vlek"
)

// productOf reads a product as certificates write it: "Milan", "Milan-B0".
func productOf(name string) Product {
	name, _, _ = strings.Cut(name, "-")
	for _, p := range []Product{Milan, Genoa, Turin} {
		if strings.EqualFold(name, string(p)) {
			return p
		}
	}
	return ""
}

// cpu tells the product from family and model as reports of version 3 and later
// carry them: combined, so that Milan is family 25 (Zen 3 and 4) and Turin 26
// (Zen 5). Models by AMD's revision guides: 00h-0Fh Milan, 10h-1Fh Genoa, A0h-AFh
// Bergamo and Siena; 00h-1Fh Turin.
func cpu(family, model byte) Product {
	switch {
	case family == 0x19 && model <= 0x0f:
		return Milan
	case family == 0x19 && (model&0xf0 == 0x10 || model&0xf0 == 0xa0):
		return Genoa
	case family == 0x1a && model <= 0x1f:
		return Turin
	}
	return ""
}
