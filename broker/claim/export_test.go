package claim

// ParseJSON reads one JSON value.
func ParseJSON(raw []byte) (any, error) { return parseJSON(raw) }
