// Package conformance judges a folder of captured evidence against the verdicts
// that its MANIFEST.tsv states: Zonebroker's own test vectors, and anybody's
// captures of their own machines.
//
// It adds nothing to what is accepted. It reads the forms in which captures come
// (PEM, blobs of tools, JSON of other projects), hands the bytes to the packages
// that judge, and compares verdict, code and facts. Where a capture lacks what
// Zonebroker would know of its own machine (the attributes of an AK, its
// hierarchy), that is left unchecked, which a broker never does.
//
// The format of the manifest is described in docs/evidence/vectors.md.
//
// The package is pure: it reads from an fs.FS, which has to confine paths to the
// folder (os.Root does), and has no clock.
package conformance
