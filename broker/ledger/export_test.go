package ledger

// PlainForm is the short way to the canonical form; false where it does not
// apply.
func PlainForm(v any) ([]byte, bool) { return plainForm(v) }
