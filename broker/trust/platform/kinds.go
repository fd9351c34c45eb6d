// Package platform keeps the trust in platforms, which documents of clouds and of
// confidential machines are verified with: roots, region certificates, token keys,
// revocation lists, collateral. A table that ships with the broker names what is
// published, with fingerprints where the content is fixed; a folder holds what an
// operator imported or a refresher fetched.
//
// How an object is believed depends on its kind:
//
//   - roots, chains and region certificates: by the SHA-256 of their row, so that
//     neither network nor server is trusted; what no row lists, only by the word of
//     the operator who imports it;
//   - revocation lists, and VCEKs: by the signature of a CA of their platform in the
//     folder;
//   - Intel's collateral: by the signatures under Intel's root in the folder;
//   - token keys (jwks): by TLS of the address in the table or given at import;
//   - what an operator writes or exports himself (nvidia.rim, cca.platform,
//     x509pop.ca): by his word.
//
// Only Refresh talks to a network, and only to addresses of the table or of an
// operator; nothing that evidence names is asked. Verifying reads what is there.
package platform

import (
	"slices"
	"time"

	"github.com/zonebroker/zonebroker/verifier"
)

// Forms of content.
const (
	formCertificates = "certificates" // PEM; an import may bring DER
	formCRL          = "crl"
	formKeys         = "jwks"
	formCollateral   = "collateral"
	formVCEK         = "vcek"
	formOther        = "document" // kept as it is
)

// kind says how objects of one kind are read, kept and renewed.
type kind struct {
	name string
	form string
	max  int // bytes of one object
	// every is how old a fetched object may be before it is asked for again; 0 for
	// content that never changes.
	every time.Duration
	// lifetime is how long a fetched object counts where its content has no end: a
	// key that its issuer took back must not outlive its refreshing for ever.
	lifetime time.Duration
}

const (
	keysEvery = 6 * time.Hour // issuers rotate in days and publish ahead
	keysLife  = 7 * 24 * time.Hour
	listEvery = 24 * time.Hour // lists and collateral run for a month or more
)

var kinds = []kind{
	{name: verifier.TrustSNPCRL, form: formCRL, max: 1 << 20, every: listEvery},
	{name: verifier.TrustSNP, form: formCertificates, max: 64 << 10},
	{name: verifier.TrustVCEK, form: formVCEK, max: 16 << 10},
	{name: verifier.TrustEC2, form: formCertificates, max: 64 << 10},
	{name: verifier.TrustNitro, form: formCertificates, max: 64 << 10},
	{name: verifier.TrustAzureIMDS, form: formCertificates, max: 64 << 10},
	{name: verifier.TrustCCA, form: formOther, max: 64 << 10},
	{name: verifier.TrustGoogleCRL, form: formCRL, max: 1 << 20},
	{name: verifier.TrustGoogleAK, form: formCertificates, max: 64 << 10},
	{name: verifier.TrustIntelTCB, form: formCollateral, max: 1 << 20, every: listEvery},
	{name: verifier.TrustIntel, form: formCertificates, max: 64 << 10},
	{name: verifier.TrustJWKS, form: formKeys, max: 256 << 10, every: keysEvery, lifetime: keysLife},
	{name: verifier.TrustNVIDIA, form: formCertificates, max: 64 << 10},
	{name: verifier.TrustNVIDIARIM, form: formOther, max: 1 << 20},
	{name: verifier.TrustX509PoP, form: formCertificates, max: 256 << 10},
	{name: verifier.TrustX509CRL, form: formCRL, max: 4 << 20}, // a PKI's lists have people, too
}

// signersOf are the kinds whose certificates sign the lists of a kind.
var signersOf = map[string]string{
	verifier.TrustSNPCRL:    verifier.TrustSNP,
	verifier.TrustGoogleCRL: verifier.TrustGoogleAK,
	verifier.TrustX509CRL:   verifier.TrustX509PoP,
}

func kindOf(name string) (kind, bool) {
	i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == name })
	if i < 0 {
		return kind{}, false
	}
	return kinds[i], true
}

// Kinds returns the names of all kinds in their order.
func Kinds() []string {
	out := make([]string, len(kinds))
	for i, k := range kinds {
		out[i] = k.name
	}
	return out
}
