package platform

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// amdService is where AMD hands out VCEKs (VCEK Certificate and KDS Interface
// Specification, rev. 1.00, chapter 4).
const amdService = "https://kdsintf.amd.com"

// amdOID is AMD's arc of extensions; the arcs below are of the same document,
// table 8.
var amdOID = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}

const arcHardwareID = 4

// part is one security version: its parameter in the address, its arc under
// amdOID.3, its byte in the TCB of a report.
type part struct {
	parameter string
	arc       int
	at        int
}

// layouts of a TCB by product.
var layouts = map[string][]part{
	"milan": {{"blSPL", 1, 0}, {"teeSPL", 2, 1}, {"snpSPL", 3, 6}, {"ucodeSPL", 8, 7}},
	"genoa": {{"blSPL", 1, 0}, {"teeSPL", 2, 1}, {"snpSPL", 3, 6}, {"ucodeSPL", 8, 7}},
	"turin": {{"fmcSPL", 9, 0}, {"blSPL", 1, 1}, {"teeSPL", 2, 2}, {"snpSPL", 3, 3}, {"ucodeSPL", 8, 7}},
}

// chip is what a VCEK is for. As a name it is product-chip-tcb: the product in
// lower case, CHIP_ID (of Turin its first 8 bytes) and the eight bytes of the TCB
// as a report has them, in hex.
type chip struct {
	product string
	id      []byte
	tcb     [8]byte
}

func parseChip(name string) (chip, error) {
	wrong := fmt.Errorf("%q does not name a VCEK: product-chip-tcb, as milan-HEX-HEX", name)
	f := strings.Split(name, "-")
	if len(f) != 3 || layouts[f[0]] == nil {
		return chip{}, wrong
	}
	want := 128
	if f[0] == "turin" {
		want = 16
	}
	if !isHex(f[1], want) || !isHex(f[2], 16) || strings.ToLower(name) != name {
		return chip{}, wrong
	}
	c := chip{product: f[0]}
	c.id, _ = hex.DecodeString(f[1])
	tcb, _ := hex.DecodeString(f[2])
	c.tcb = [8]byte(tcb)
	return c, nil
}

func (c chip) name() string { return fmt.Sprintf("%s-%x-%x", c.product, c.id, c.tcb) }

func (c chip) address() string {
	q := url.Values{}
	for _, p := range layouts[c.product] {
		q.Set(p.parameter, fmt.Sprintf("%02d", c.tcb[p.at]))
	}
	return amdService + "/vcek/v1/" + strings.ToUpper(c.product[:1]) + c.product[1:] + "/" + hex.EncodeToString(c.id) + "?" + q.Encode()
}

// chipOf reads what a VCEK is for from the certificate.
func chipOf(c *x509.Certificate) (chip, error) {
	product, ok := strings.CutPrefix(c.Issuer.CommonName, "SEV-")
	out := chip{product: strings.ToLower(product)}
	if !ok || layouts[out.product] == nil || c.IsCA {
		return out, errors.New("no VCEK of a known product")
	}
	for _, e := range c.Extensions {
		if !hasPrefix(e.Id, amdOID) {
			continue
		}
		rest := e.Id[len(amdOID):]
		switch {
		case len(rest) == 1 && rest[0] == arcHardwareID:
			out.id = e.Value
			var inner []byte
			if tail, err := asn1.Unmarshal(e.Value, &inner); err == nil && len(tail) == 0 {
				out.id = inner
			}
		case len(rest) == 2 && rest[0] == 3:
			for _, p := range layouts[out.product] {
				if p.arc != rest[1] {
					continue
				}
				var n int
				if tail, err := asn1.Unmarshal(e.Value, &n); err != nil || len(tail) > 0 || n < 0 || n > 255 {
					return out, errors.New("a security version of the VCEK is no number from 0 to 255: " + strconv.Itoa(p.arc))
				}
				out.tcb[p.at] = byte(n)
			}
		}
	}
	if _, err := parseChip(out.name()); err != nil {
		return out, errors.New("the VCEK names no chip")
	}
	return out, nil
}

func hasPrefix(id, prefix asn1.ObjectIdentifier) bool {
	return len(id) > len(prefix) && id[:len(prefix)].Equal(prefix)
}

// believeVCEK checks that a certificate is for the chip, and signed by AMD.
func believeVCEK(c content, want chip, asks []*x509.Certificate) error {
	if len(c.certs) != 1 {
		return fmt.Errorf("%d certificates, want one VCEK", len(c.certs))
	}
	got, err := chipOf(c.certs[0])
	if err != nil {
		return err
	}
	if got.product != want.product || !bytes.Equal(got.id, want.id) || got.tcb != want.tcb {
		return errors.New("the VCEK is for another chip or TCB")
	}
	if !certSigned(c.certs[0], asks) {
		return errors.New("no intermediate of amd.snp in the folder has signed it")
	}
	return nil
}
