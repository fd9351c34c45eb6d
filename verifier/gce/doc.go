// Package gce verifies tokens that Google signs for machines of its cloud: the
// identity token of a Compute Engine instance, and the token that Confidential
// Space's attestation verifier gives to a workload.
//
// It trusts the configured key sets, and that Google's metadata server hands an
// instance's token only to that instance. Package jwt holds the rules for the
// tokens themselves; AK certificates of Google's vTPMs are judged by package
// akcert.
package gce
