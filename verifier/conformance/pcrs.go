package conformance

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"

	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// pcrs returns the PCR values that the context gives, from a file, inline or by
// rule; given says whether there are any.
func (c *testcase) pcrs(bank tpm2.Bank, quoted tpm2.Selection) (values map[int][]byte, given bool, err error) {
	values = map[int][]byte{}
	switch {
	case c.get("config") == "pcrs_all_zero":
		for _, i := range quoted.Indexes() {
			values[i] = make([]byte, digestSize(bank))
		}
		given = true
	case c.has("pcrs"):
		raw, err := c.open(c.get("pcrs"))
		if err != nil {
			return nil, false, err
		}
		if c.has("pcrs_format") {
			if _, err := c.choice("pcrs_format", "tpm2tools"); err != nil {
				return nil, false, err
			}
			values, err = tpm2ToolsPCRs(raw, bank)
		} else {
			values, err = publishedPCRs(raw, bank)
		}
		if err != nil {
			return nil, false, err
		}
		given = true
	}
	for key, text := range c.row.context {
		if n, ok := strings.CutPrefix(key, "pcr."); ok {
			i, _ := pcrIndex(n)
			c.read[key] = true
			values[i], given = digestOf(text), true
		}
	}
	return values, given, nil
}

// bankDump is the number of values of a file that lists a whole bank.
const bankDump = tpm2.PCRs

// dropUnquoted leaves out what stands beside the quoted values in a dump of the
// whole bank. A shorter list was made for this quote: what it has too much is
// for the verifier to refuse.
func dropUnquoted(values map[int][]byte, quoted tpm2.Selection) {
	if len(values) != bankDump {
		return
	}
	for i := range values {
		if !quoted.Has(i) {
			delete(values, i)
		}
	}
}

func digestSize(bank tpm2.Bank) int {
	switch bank {
	case tpm2.BankSHA1:
		return 20
	case tpm2.BankSHA384:
		return 48
	}
	return 32
}

// digestOf reads hex with or without 0x. What is no hex has no length that a
// digest has, and is refused as such.
func digestOf(s string) []byte {
	b, err := hex.DecodeString(strings.TrimPrefix(s, "0x"))
	if err != nil {
		return []byte{}
	}
	return b
}

// PCRValues reads PCR values in any of the text forms in which tools print them,
// of one bank. What is no hex digest is an empty value.
func PCRValues(raw []byte, bank tpm2.Bank) (map[int][]byte, error) {
	if len(raw) > maxFile {
		return nil, bad("the file of PCR values is larger than 32 MiB")
	}
	return publishedPCRs(raw, bank)
}

// publishedPCRs reads the text forms in which PCR values are published: JSON
// (an object or list, with or without banks), the YAML of tpm2_eventlog and
// tpm2_pcrread, and one hex line a PCR.
func publishedPCRs(raw []byte, bank tpm2.Bank) (map[int][]byte, error) {
	trimmed := bytes.TrimSpace(raw)
	switch {
	case len(trimmed) == 0:
		return nil, bad("the file of PCR values is empty")
	case trimmed[0] == '{' || trimmed[0] == '[':
		return jsonPCRs(trimmed, bank)
	case bytes.Contains(trimmed, []byte(":")):
		return yamlPCRs(string(raw), bank)
	}
	out := map[int][]byte{}
	for i, text := range strings.Fields(string(trimmed)) {
		if i >= tpm2.PCRs {
			return nil, bad("more lines of PCR values than a bank has PCRs")
		}
		out[i] = digestOf(text)
	}
	return out, nil
}

func jsonPCRs(raw []byte, bank tpm2.Bank) (map[int][]byte, error) {
	var banks map[string]json.RawMessage
	if raw[0] == '{' {
		if err := json.Unmarshal(raw, &banks); err != nil {
			return nil, bad("the PCR values are not JSON: %v", err)
		}
		if inner, ok := banks[bank.String()]; ok {
			raw = inner
		} else if inner, ok := banks["pcrs"]; ok {
			raw = inner
		}
	}
	var byIndex map[string]string
	if json.Unmarshal(raw, &byIndex) == nil {
		out := map[int][]byte{}
		for key, text := range byIndex {
			i, ok := pcrIndex(key)
			if !ok {
				return nil, bad("the PCR values name %q", key)
			}
			out[i] = digestOf(text)
		}
		return out, nil
	}
	var list []string
	if json.Unmarshal(raw, &list) == nil && len(list) <= tpm2.PCRs {
		out := map[int][]byte{}
		for i, text := range list {
			out[i] = digestOf(text)
		}
		return out, nil
	}
	return nil, bad("the PCR values are JSON of an unknown form, or have no bank %s", bank)
}

var yamlPCR = regexp.MustCompile(`^\s+(\d+)\s*:\s*(\S+)\s*$`)

// yamlPCRs reads the lines below the name of the bank, "sha256:".
func yamlPCRs(text string, bank tpm2.Bank) (map[int][]byte, error) {
	out := map[int][]byte{}
	inside := false
	for l := range strings.Lines(text) {
		m := yamlPCR.FindStringSubmatch(strings.TrimRight(l, "\r\n"))
		if m == nil {
			inside = strings.TrimSpace(l) == bank.String()+":" || inside && strings.TrimSpace(l) == ""
			continue
		}
		if !inside {
			continue
		}
		i, ok := pcrIndex(m[1])
		if !ok {
			return nil, bad("the PCR values name PCR %s", m[1])
		}
		out[i] = digestOf(m[2])
	}
	if len(out) == 0 {
		return nil, bad("the PCR values have no bank %s", bank)
	}
	return out, nil
}

// Layout of the blob of tpm2_quote --pcrs_format=serialized (tpm2-tools 5,
// files_save_pcrs): little-endian TPML_PCR_SELECTION in memory form (count, 16
// entries of 8 bytes: hash 2, sizeofSelect 1, mask 4, padding 1), the number of
// TPML_DIGESTs, and those (count, 8 entries of size 2 and 64 bytes).
const (
	blobBanks     = 16
	blobSelection = 4 + blobBanks*8
	blobDigest    = 2 + 64
	blobPerList   = 8
	blobList      = 4 + blobPerList*blobDigest
)

func tpm2ToolsPCRs(raw []byte, bank tpm2.Bank) (map[int][]byte, error) {
	le := binary.LittleEndian
	if len(raw) < blobSelection+4 {
		return nil, bad("the PCR blob ends early")
	}
	banks, lists, rest := le.Uint32(raw), le.Uint32(raw[blobSelection:]), raw[blobSelection+4:]
	if banks > blobBanks || uint64(lists)*blobList != uint64(len(rest)) {
		return nil, bad("the PCR blob has another form than tpm2-tools write")
	}
	var digests [][]byte
	for l := range int(lists) {
		list := rest[l*blobList:]
		for d := range int(min(le.Uint32(list), blobPerList)) {
			entry := list[4+d*blobDigest:][:blobDigest]
			digests = append(digests, entry[2:2+min(int(le.Uint16(entry)), blobDigest-2)])
		}
	}
	out := map[int][]byte{}
	for b := range int(banks) {
		entry := raw[4+b*8:][:8]
		for i := range 32 {
			if entry[3+i/8]&(1<<(i%8)) == 0 {
				continue
			}
			if len(digests) == 0 {
				return out, nil // a value short: the verifier names the PCR
			}
			if le.Uint16(entry) == uint16(bank) {
				out[i] = digests[0]
			}
			digests = digests[1:]
		}
	}
	return out, nil
}

// selection reads the mask of a manifest: one number in six hex digits, bit 0 is
// PCR 0, so that 010000 is PCR 16. The bytes stand the other way round in a
// quote and on the wire.
func (c *testcase) selection(signed *tpm2.Structure) (tpm2.Selection, error) {
	if !c.has("select") {
		return signedSelection(signed), nil
	}
	n, err := strconv.ParseUint(c.get("select"), 16, 24)
	if err != nil || len(c.get("select")) != 6 {
		return tpm2.Selection{}, bad("select has to be six hex digits")
	}
	return tpm2.Selection{byte(n), byte(n >> 8), byte(n >> 16)}, nil
}

// signedSelection is what a quote itself says, for captures of which nobody
// knows what was asked for: form and bank are judged all the same.
func signedSelection(s *tpm2.Structure) tpm2.Selection {
	out := tpm2.Selection{0xff, 0xff, 0xff}
	if s != nil && len(s.Selections) > 0 && len(s.Selections[0].Mask) == len(out) {
		copy(out[:], s.Selections[0].Mask)
	}
	return out
}
