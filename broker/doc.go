// Package broker is the attestation pipeline: it admits a request, redeems its
// challenge, has the evidence judged by a verifier, decides by policy, prepares
// the SVIDs, has the decision recorded, and only then signs.
package broker
