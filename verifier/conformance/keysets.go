package conformance

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"strings"

	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/strictjson"
)

// keySets returns the keys that a row names by jwks or keys; ok is false where it
// names none. Keys of PEM are a set each, as none has an id: a cluster has several
// of them while it changes them. A set of JSON that nobody could configure (a key
// without an id, an id twice) is like one that was never configured.
func (c *testcase) keySets() (sets []jwt.Keys, ok bool, err error) {
	name := "jwks"
	if !c.has(name) {
		name = "keys"
	}
	raw, err := c.companion(name)
	if err != nil {
		return nil, false, err
	}
	if raw == nil {
		return nil, c.none("jwks") || c.none("keys"), nil
	}
	blocks := pemBlocks(raw)
	if len(blocks) == 0 {
		blocks = [][]byte{certificatesByID(raw)}
	}
	for _, b := range blocks {
		keys, err := jwt.ParseKeys(b)
		if err != nil && strictjson.Check(raw) == nil {
			continue
		}
		if err != nil {
			return nil, false, bad("%s: %v", c.get(name), err)
		}
		sets = append(sets, keys)
	}
	return sets, true, nil
}

// pemBlocks takes PEM apart; nil for what is none.
func pemBlocks(raw []byte) [][]byte {
	var out [][]byte
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		out = append(out, pem.EncodeToMemory(block))
	}
	return out
}

// certificatesByID writes an object of certificates in PEM by key id, as Google
// publishes its keys under oauth2/v1/certs, as a key set; anything else stays as it
// is.
func certificatesByID(raw []byte) []byte {
	members, err := strictjson.Object(raw)
	if err != nil {
		return raw
	}
	type certified struct {
		Kty string   `json:"kty"`
		Kid string   `json:"kid"`
		X5C []string `json:"x5c"`
	}
	var set struct {
		Keys []certified `json:"keys"`
	}
	for id, member := range members {
		text, _ := strictjson.Text(member)
		block, rest := pem.Decode([]byte(text))
		if block == nil || block.Type != "CERTIFICATE" || strings.TrimSpace(string(rest)) != "" {
			return raw
		}
		set.Keys = append(set.Keys, certified{"RSA", id, []string{base64.StdEncoding.EncodeToString(block.Bytes)}})
	}
	if out, err := json.Marshal(set); err == nil && len(set.Keys) > 0 {
		return out
	}
	return raw
}
