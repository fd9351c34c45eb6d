package oracle

// Why ours refuses what they accept. Nothing that ours accepts do they refuse.
const (
	weakSHA1   = "they take SHA-1, of the bank or in the signature: two inputs with one hash can be made"
	empty      = "they take a quote over nothing, which anybody could have kept"
	notAsked   = "they are told what was sent, not what was asked for, so that the sender chooses its PCRs"
	valuesSay  = "it hashes the values that were sent and looks at no signed selection, so that one PCR passes for another"
	lengths    = "they hash the values behind one another, so that bytes may move from one PCR to the next"
	attributes = "they take any key, also one that signs a made-up quote with TPM2_Sign"
	signer     = "they take a key of any hierarchy, also one that reports other counters"
	magic      = "it does not ask whether the TPM made what was signed"
	unsigned   = "it passes over the hash that the signature names, and takes that of the key"
	loose      = "they read structures that no TPM writes"
)

// meantQuote is a difference: the code that ours refuses with, why they do not,
// and whether only the vectors show it.
type meantQuote struct {
	code, why string
	captured  bool
}

// quotesMeant lists every difference by what was done to the quote and the
// oracle. One that is gone has to leave it.
var quotesMeant = map[string]meantQuote{
	"PCR 7 passed for PCR 8 / tpm2_checkquote":                                              {"tpm2.quote.selection", valuesSay, false},
	"SHA-1 bank / go-attestation":                                                           {"tpm2.pcr.bank", weakSHA1, false},
	"SHA-1 bank / tpm2_checkquote":                                                          {"tpm2.pcr.bank", weakSHA1, false},
	"a byte behind / go-attestation":                                                        {"tpm2.attest.trailing", loose, false},
	"a byte behind / tpm2_checkquote":                                                       {"tpm2.attest.trailing", loose, false},
	"a byte moved to the value before / go-attestation":                                     {"tpm2.pcr.length", lengths, false},
	"a byte moved to the value before / tpm2_checkquote":                                    {"tpm2.pcr.length", lengths, false},
	"a key that signs anything / go-attestation":                                            {"tpm2.ak.not_restricted", attributes, false},
	"a key that signs anything / tpm2_checkquote":                                           {"tpm2.ak.not_restricted", attributes, false},
	"a select of four / go-attestation":                                                     {"tpm2.quote.select_size", loose, false},
	"a select of four / tpm2_checkquote":                                                    {"tpm2.quote.select_size", loose, false},
	"another magic / tpm2_checkquote":                                                       {"tpm2.attest.magic", magic, false},
	"another parent / go-attestation":                                                       {"tpm2.quote.signer_mismatch", signer, false},
	"another parent / tpm2_checkquote":                                                      {"tpm2.quote.signer_mismatch", signer, false},
	"fewer PCRs asked for / go-attestation":                                                 {"tpm2.quote.selection", notAsked, false},
	"fewer PCRs asked for / tpm2_checkquote":                                                {"tpm2.quote.selection", notAsked, false},
	"no selection / tpm2_checkquote":                                                        {"tpm2.quote.selection", valuesSay, false},
	"nothing bound / go-attestation":                                                        {"tpm2.quote.nonce_mismatch", empty, false},
	"nothing bound / tpm2_checkquote":                                                       {"tpm2.quote.nonce_mismatch", empty, false},
	"safe is 2 / go-attestation":                                                            {"tpm2.attest.safe", loose, false},
	"safe is 2 / tpm2_checkquote":                                                           {"tpm2.attest.safe", loose, false},
	"signature, byte 2 turned / go-attestation":                                             {"tpm2.signature.hash", unsigned, false},
	"signature, byte 3 turned / go-attestation":                                             {"tpm2.signature.hash", unsigned, false},
	"two selections / tpm2_checkquote":                                                      {"tpm2.quote.selection", valuesSay, false},
	"its own words, google+go-attestation/windows_gcp_shielded_vm.json / go-attestation":    {"tpm2.signature.hash", weakSHA1, true},
	"its own words, google+go-attestation/windows_gcp_shielded_vm.json / tpm2_checkquote":   {"tpm2.signature.hash", weakSHA1, true},
	"its own words, google+go-tpm-tools/gce-cos-85-no-nonce.sha1.quote / go-attestation":    {"tpm2.quote.nonce_mismatch", empty, true},
	"its own words, google+go-tpm-tools/gce-cos-85-no-nonce.sha1.quote / tpm2_checkquote":   {"tpm2.quote.nonce_mismatch", empty, true},
	"its own words, google+go-tpm-tools/gce-cos-85-no-nonce.sha256.quote / go-attestation":  {"tpm2.quote.nonce_mismatch", empty, true},
	"its own words, google+go-tpm-tools/gce-cos-85-no-nonce.sha256.quote / tpm2_checkquote": {"tpm2.quote.nonce_mismatch", empty, true},
	"its own words, google+go-tpm-tools/gce-cos-85-no-nonce.sha384.quote / go-attestation":  {"tpm2.quote.nonce_mismatch", empty, true},
	"its own words, google+go-tpm-tools/gce-cos-85-no-nonce.sha384.quote / tpm2_checkquote": {"tpm2.quote.nonce_mismatch", empty, true},
	"keylime+keylime/keylime-quote.bin / go-attestation":                                    {"tpm2.quote.selection", notAsked, true},
	"keylime+keylime/keylime-quote.bin / tpm2_checkquote":                                   {"tpm2.quote.selection", notAsked, true},
}
