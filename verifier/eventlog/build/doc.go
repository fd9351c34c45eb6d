// Package build makes UEFI event logs in the crypto-agile form, for software
// TPMs that are booted by extending them and for tests that need a log with one
// field changed.
//
// A Machine describes one boot; its Log is what firmware, shim, GRUB and the
// kernel of a Debian or Ubuntu host would leave behind, in their order and with
// their rules for what is hashed. The same Machine always gives the same bytes.
// Certificates, firmware volumes and images are stand-ins derived from their
// names: a log holds their digests and lengths, never code that could run, and
// applications are hashed whole instead of by Authenticode.
//
// The package is pure: no clock, no files, no randomness.
package build
