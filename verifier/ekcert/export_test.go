package ekcert

import "math/big"

// ROCA exposes the fingerprint of CVE-2017-15361.
func ROCA(n *big.Int) bool { return roca(n) }
