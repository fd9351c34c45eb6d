package hostdeps

// Release identifies the system that fetched programs are made for.
func Release() string { return release() }

// BaseNames returns the names of the packages that the resolver starts from.
func BaseNames(status, architecture string) []string {
	var names []string
	for _, p := range base(parseStatus(status, architecture)) {
		names = append(names, p.name)
	}
	return names
}

// Relations lists the packages that a relation field names.
func Relations(field string) []string { return relations(field) }

// WriteScripts makes the scripts of an unpacked program.
func WriteScripts(dir, final string) error { return writeScripts(dir, final) }
