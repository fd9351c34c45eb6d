// Package swtpm runs software TPMs with the program swtpm and boots them: a demo
// needs a fleet of hosts, and tests need TPMs that can be cleared, cloned and
// cut from power.
//
// A TPM lives in a folder of its own. The first start manufactures it: banks
// SHA-1 and SHA-256, endorsement keys of the templates L-1 (RSA-2048) and L-2
// (NIST P-256) of the TCG EK Credential Profile, and their certificates in NV,
// issued by a CA of the caller's folder. It does without swtpm_setup and
// swtpm_localca: they need a system user, write below /var, and make a P-384 key
// where other TPMs have P-256.
//
// Nothing here makes a TPM genuine. Whoever may write the folder owns all of its
// keys, and the certificates say so: their manufacturer is in no registry, so a
// broker accepts them only where it is told the CA and the manufacturer.
//
// Linux only. The process dies with its parent, whatever ends the parent.
package swtpm
