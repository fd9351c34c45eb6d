// Package build makes measurement lists of the Linux kernel (IMA) in the binary
// form, for software TPMs that a list is extended into and for tests that need
// one with a single field changed.
//
// The package is pure: no clock, no files, no randomness.
package build
