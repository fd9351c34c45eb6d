package store

// What reads of nodes ask Postgres, for tests of the plan.
const (
	NodesByID = nodesByID
	NodesByAK = nodesByAK
)

// Bounds of reads in groups.
const (
	GroupSize  = groupSize
	ReadQueue  = readQueue
	StuckAfter = stuckAfter
)

// ReadsByAK tells how many reads by AK wait, and how many statements are under
// way.
func (s *Store) ReadsByAK() (queued, running int) {
	s.byAK.mu.Lock()
	defer s.byAK.mu.Unlock()
	return len(s.byAK.queue), s.byAK.running
}

// Connections of the pool, and how many of them the statements of one reader take.
const (
	PoolSize   = poolSize
	MaxReaders = maxReaders
)

// NewConnections tells how many connections the pool has ever made.
func (s *Store) NewConnections() int64 { return s.pool.Stat().NewConnsCount() }
