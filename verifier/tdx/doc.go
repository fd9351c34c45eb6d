// Package tdx verifies TDX quotes, versions 4 and 5, against Intel's collateral.
//
// A quote is believed where four signatures hold: of the attestation key over the
// quote, of the PCK over the quoting enclave's report that names this key, of
// Intel's CAs over the PCK certificate, and of Intel over the collateral by which
// the platform's level is judged. Verify is the only way to a Quote.
//
// Two things that libraries in use leave to their callers are judged here: a debug
// guest and a level that is not UpToDate are hazards, which default policy refuses.
// Collateral is configured and read once (NewTrust); nothing that a quote or a
// certificate names is fetched, and there is no clock.
//
// Layouts: Intel TDX DCAP Quoting Library API, appendix 3 (quotes); Intel SGX PCK
// Certificate and CRL Profile Specification 1.5 (certificates); Intel PCS API v4
// (TCB info version 3, enclave identity version 2).
package tdx
