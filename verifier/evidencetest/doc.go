// Package evidencetest fabricates honest TPM 2.0 evidence in pure Go: a TPM
// whose keys lie in software, booted through a firmware log, endorsed by a
// maker's CA. Unit tests of the verifier and of the broker's pipeline start from
// it and change one thing.
//
// It is a test helper. Its TPM signs whatever it is told to, so nothing here
// says anything about real ones: those are tested with captures and with a
// software TPM. Shipped code does not import it (test/arch_test.go).
package evidencetest
