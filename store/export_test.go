package store

// What lists ask Postgres, for tests of their plans.
var (
	RecordsQuery = recordsQuery
	DriftQuery   = driftQuery
)
