package ekcert

import "math/big"

// rocaBound: the weak generator makes primes k·M + (65537^a mod M); for keys of
// 1984 bits and more M is at least the product of the first 126 primes, up to
// 701 (Nemec et al., "The Return of Coppersmith's Attack", CCS 2017, table 1).
const rocaBound = 701

// roca reports whether n looks like a product of two such primes: modulo every
// small prime it is a power of 65537. A random modulus passes for one with
// probability below 2^-150.
func roca(n *big.Int) bool {
	m := new(big.Int)
	for p := int64(3); p <= rocaBound; p += 2 {
		if !big.NewInt(p).ProbablyPrime(0) { // exact below 2^64
			continue
		}
		if !powerOf65537(m.Mod(n, big.NewInt(p)).Int64(), p) {
			return false
		}
	}
	return true
}

// powerOf65537 reports whether r is in the subgroup that 65537 generates modulo
// the prime p.
func powerOf65537(r, p int64) bool {
	g := 65537 % p
	for x := int64(1); ; {
		if x == r {
			return true
		}
		if x = x * g % p; x == 1 || x == 0 {
			return false
		}
	}
}
