package policy

// LoadTiers is Load for a broker that judges tiers up to max.
func LoadTiers(files []File, max int) (*Set, []Problem) { return load(files, max) }
