package tdx_test

import "testing"

// TestBundleWithTheChainOfAMachine: tools that fetch collateral for one quote put
// the chain of its PCK beside; nothing reads it, whatever it is.
func TestBundleWithTheChainOfAMachine(t *testing.T) {
	for _, chain := range []string{"", "no chain"} {
		row{"chain " + chain, func(l *lab) {
			l.collateral = bundle(func(b map[string]string) { b["pck_certificate_chain"] = chain })
		}, ""}.run(t)
	}
}
