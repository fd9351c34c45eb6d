package cca

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Lifecycle states in which the platform is secured (Arm DEN0137, A7.2.3.2.3).
const (
	securedFrom = 0x3000
	securedTo   = 0x30ff
)

// Secured reports whether the platform is in the secured state; in all others
// somebody can debug what realms run on.
func (t Token) Secured() bool {
	return t.platform.lifecycle >= securedFrom && t.platform.lifecycle <= securedTo
}

// Facts returns what the token proved. Class A needs the challenge. A realm has no
// name of its own, so no machine is named: the node is its agent's key.
func (t Token) Facts() document.Facts {
	f := document.Facts{Class: document.ClassC, NonceBound: t.bound, KeyBound: t.bound}
	if t.bound {
		f.Class = document.ClassA
		f.Anchors = []document.Anchor{{Kind: document.AnchorReport, Value: hex.EncodeToString(t.realm.challenge[:32])}}
	}
	f.Pass("cca.platform", "signed by a configured platform key")
	f.Pass("cca.binding", "the platform's challenge is the hash of the realm's key")
	f.Pass("cca.realm", "signed by the realm's key")
	f.Own(document.OwnerCCARealm, measured(t.realm.initial))
	f.Own(document.OwnerCCAInstance, hex.EncodeToString(t.platform.instance))
	f.Add("cca.profile", t.platform.profile)
	f.Add("cca.instance_id", hex.EncodeToString(t.platform.instance))
	f.Add("cca.implementation_id", hex.EncodeToString(t.platform.implementation))
	f.Add("cca.config", hex.EncodeToString(t.platform.config))
	f.Add("cca.lifecycle", fmt.Sprintf("%04x", t.platform.lifecycle))
	for _, c := range t.platform.components {
		f.Add("cca.component.measurement", hex.EncodeToString(c.measurement))
		f.Add("cca.component.signer", hex.EncodeToString(c.signer))
	}
	f.Add("cca.rim", measured(t.realm.initial))
	f.Add("cca.rpv", measured(t.realm.personal))
	for i, m := range t.realm.extensible {
		f.Add("cca.rem."+strconv.Itoa(i), measured(m))
	}
	f.Sort()
	if !t.Secured() {
		f.Fear(reason.CCALifecycle, fmt.Sprintf("the platform's lifecycle is %04x, secured is 3000 to 30ff", t.platform.lifecycle))
	}
	return f
}

// measured returns a value in hex, "" for zeros: nothing was measured, and each
// realm of which nothing was shares them.
func measured(b []byte) string {
	if len(bytes.Trim(b, "\x00")) == 0 {
		return ""
	}
	return hex.EncodeToString(b)
}
