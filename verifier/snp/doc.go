// Package snp judges attestation reports of AMD SEV-SNP: whether a genuine AMD
// chip says that a guest with these measurements runs under its protection, and
// asked for the report with the expected REPORT_DATA.
//
// The layout is that of the SEV Secure Nested Paging Firmware ABI Specification
// (AMD 56860), section 7.3, of report versions 2, 3 and 5; certificates are those
// of the Versioned Chip Endorsement Key Certificate and KDS Interface
// Specification (AMD 57230). It trusts the configured AMD keys and the caller's
// clock, and nothing that stands outside the signed 672 bytes.
//
// A report is 1184 bytes, a certificate that comes along at most MaxCertificate;
// more is request.too_large. Debug, privilege levels and a TCB below the floor are
// hazards: genuine, and refused unless a zone names their code.
package snp
