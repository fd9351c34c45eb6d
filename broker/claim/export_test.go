package claim

// ParseJSON reads one JSON value.
func ParseJSON(raw []byte) (any, error) { return parseJSON(raw) }

// Plain is what Encode writes without the library, if it does.
func Plain(c Claims) ([]byte, bool) { return c.plain() }

// EncodeByLibrary is Encode without the short cut.
func EncodeByLibrary(c Claims) ([]byte, error) { return c.encode() }

// Record is the value of the extension around a claims-set.
func Record(raw []byte) []byte { return cmwRecord(raw) }
