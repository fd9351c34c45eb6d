package claim

import (
	"slices"
	"strconv"
)

// plainRoom is more than the claims-set of a node needs.
const plainRoom = 1 << 10

// plain writes the claims-set straight from its values, in the one form that
// Encode has: members in the order of their names, nothing between them. It says
// no where a value breaks the rules that readers go by, or a text needs escapes:
// then the library writes, and what it wrote is read. That was a twentieth of a
// renewal's CPU.
func (c Claims) plain() ([]byte, bool) {
	if c.broken() != "" {
		return nil, false
	}
	w := plainWriter{out: make([]byte, 0, plainRoom), ok: true}
	w.text(`{"ear_status":`, string(c.Status))
	w.text(`,"ear_verifier_id":{"build":`, c.VerifierID.Build)
	w.text(`,"developer":`, c.VerifierID.Developer)
	w.text(`},"eat_profile":`, Profile)
	if c.Expires != 0 {
		w.number(`,"exp":`, c.Expires)
	}
	w.number(`,"iat":`, c.IssuedAt)
	w.raw(`,"submods":{`)
	var room [maxSubmods]string
	names := room[:0]
	for name := range c.Submods {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		if i > 0 {
			w.raw(",")
		}
		w.text("", name)
		w.submod(c.Submods[name])
	}
	w.raw(`},"trust_zone":`)
	w.zone(c.Zone)
	w.raw("}")
	return w.out, w.ok && len(w.out) <= maxClaims
}

// plainWriter appends members and remembers a value that is not plain.
type plainWriter struct {
	out []byte
	ok  bool
}

func (w *plainWriter) raw(s string) { w.out = append(w.out, s...) }

func (w *plainWriter) number(name string, v int64) {
	if v > maxInteger || v < -maxInteger {
		w.ok = false
	}
	w.raw(name)
	w.out = strconv.AppendInt(w.out, v, 10)
}

// text takes printable ASCII alone. encoding/json escapes what ends a string and
// what a browser might read as markup.
func (w *plainWriter) text(name, s string) {
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' || c > '~', c == '"', c == '\\', c == '<', c == '>', c == '&':
			w.ok = false
		}
	}
	w.raw(name)
	w.raw(`"`)
	w.raw(s)
	w.raw(`"`)
}

func (w *plainWriter) list(name string, list []string) {
	w.raw(name)
	separator := "["
	for _, s := range list {
		w.text(separator, s)
		separator = ","
	}
	if len(list) == 0 {
		w.raw("[")
	}
	w.raw("]")
}

func (w *plainWriter) submod(s Submod) {
	w.list(`:{"ear_appraisal_policy_ids":`, s.PolicyIDs)
	w.text(`,"ear_status":`, string(s.Status))
	w.raw(`,"ear_trustworthiness_vector":`)
	separator := "{"
	for _, m := range s.Vector.members() {
		if m.value != 0 {
			w.text(separator, m.name)
			w.number(":", int64(m.value))
			separator = ","
		}
	}
	if separator == "{" {
		w.raw("{")
	}
	w.raw("}}")
}

func (w *plainWriter) zone(z Zone) {
	w.text(`{"attestation_id":`, z.AttestationID)
	w.number(`,"attested_at":`, z.AttestedAt)
	w.raw(`,"break_glass":`)
	w.out = strconv.AppendBool(w.out, z.BreakGlass)
	w.number(`,"epoch":`, z.Epoch)
	w.text(`,"evidence":`, z.Evidence)
	w.list(`,"exceptions":`, z.Exceptions)
	w.number(`,"fresh_until":`, z.FreshUntil)
	w.text(`,"key":`, z.Key)
	w.text(`,"name":`, z.Name)
	w.text(`,"node":`, z.Node)
	w.text(`,"policy":{"hash":`, z.Policy.Hash)
	w.text(`,"mode":`, z.Policy.Mode)
	w.number(`,"version":`, z.Policy.Version)
	w.number(`},"tier":`, int64(z.Tier))
	w.raw("}")
}
