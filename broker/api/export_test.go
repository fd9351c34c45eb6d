package api

// Direct is what Encode writes without the library, if it does.
func Direct(v any) ([]byte, bool) { return direct(v) }

// EncodeByLibrary is Encode without the short cut.
func EncodeByLibrary(v any) ([]byte, error) { return encode(v) }
