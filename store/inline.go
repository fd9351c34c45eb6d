package store

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// kindInline is the kind of the evidence_part row in which a record's own
// evidence stands; its digest is empty.
const kindInline = "inline"

// inlineKinds are the parts that belong to one record alone, over a nonce or a
// new key, by their number in its packed row. What machines or records share is
// stored by content.
var inlineKinds = []string{
	1: ledger.PartQuote, ledger.PartSignature, ledger.PartCertify, ledger.PartSPKI, ledger.PartCSR,
	ledger.PartDocument, ledger.PartAgent,
}

func isInline(kind string) bool { return kind != "" && slices.Contains(inlineKinds, kind) }

// errInline says that no broker wrote a row of inline evidence.
var errInline = errors.New("inline evidence is not in its form")

// packInline packs what of the parts belongs to the record alone; nil for none.
func packInline(parts []ledger.EvidencePart) []byte {
	var out []byte
	for i := range parts {
		if p := &parts[i]; isInline(p.Kind) && p.Bytes != nil {
			out = append(out, byte(slices.Index(inlineKinds, p.Kind)))
			out = append(binary.AppendUvarint(out, uint64(len(p.Bytes))), p.Bytes...)
		}
	}
	if out == nil {
		return nil
	}
	return packContent(out)
}

// unpackInline returns the parts of a row, without their digests.
func unpackInline(packed []byte) ([]ledger.EvidencePart, error) {
	b, err := unpackContent(packed)
	if err != nil {
		return nil, err
	}
	var out []ledger.EvidencePart
	for len(b) > 0 {
		kind := int(b[0])
		n, used := binary.Uvarint(b[1:])
		if kind == 0 || kind >= len(inlineKinds) || used <= 0 || n > uint64(len(b)-1-used) {
			return nil, errInline
		}
		b = b[1+used:]
		out = append(out, ledger.EvidencePart{Kind: inlineKinds[kind], Bytes: b[:n]})
		b = b[n:]
	}
	return out, nil
}
