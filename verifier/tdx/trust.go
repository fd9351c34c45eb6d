package tdx

import (
	"encoding/hex"
	"fmt"
	"time"

	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

// Trust is the configured trust for TDX: Intel's root and the collateral of
// families of platforms. The zero value trusts nobody.
type Trust struct {
	roots   x509chain.Roots
	bundles map[string]*collateral
}

// AnyPlatform is the name of a bundle that is used for platforms without one of
// their own. Whatever it is named, a bundle is good for one fmspc only.
const AnyPlatform = ""

// NewTrust reads trust: roots in PEM, and bundles of collateral by the fmspc that
// they are for, twelve hex digits, lower case. The error is about roots or names;
// what is wrong with a bundle is told by Standing, and to each quote that needs
// it, so that one bad bundle leaves the others of use.
func NewTrust(roots [][]byte, bundles map[string][]byte) (Trust, error) {
	r, err := x509chain.NewRoots(roots...)
	if err != nil {
		return Trust{}, fmt.Errorf("tdx: %w", err)
	}
	t := Trust{roots: r, bundles: make(map[string]*collateral, len(bundles))}
	for name, raw := range bundles {
		if b, err := hex.DecodeString(name); name != AnyPlatform && (err != nil || hex.EncodeToString(b) != name || len(b) != 6) {
			return Trust{}, fmt.Errorf("tdx: collateral is named by its fmspc, twelve hex digits in lower case, not %q", name)
		}
		t.bundles[name] = newCollateral(raw, r)
	}
	return t, nil
}

// Standing says how a bundle stands at the time now: until when it is good, and
// the error with which quotes of its platforms are refused. For those who store
// and watch collateral. Errors: tdx.collateral_missing, tdx.collateral_signature,
// tdx.collateral_mismatch, tdx.collateral_expired.
func (t Trust) Standing(name string, now time.Time) (until time.Time, err error) {
	c := t.bundles[name]
	switch {
	case c == nil:
		return time.Time{}, errNoCollateral(name)
	case c.err != nil:
		return time.Time{}, c.err
	case name != AnyPlatform && hex.EncodeToString(c.tcb.FMSPC) != name:
		return time.Time{}, c.errPlatform(name)
	}
	return c.end, c.current(now)
}

func (t Trust) collateralFor(p *platform) (*collateral, error) {
	name := hex.EncodeToString(p.fmspc[:])
	c := t.bundles[name]
	if c == nil {
		c = t.bundles[AnyPlatform]
	}
	if c == nil {
		return nil, errNoCollateral(name)
	}
	return c, c.err
}
