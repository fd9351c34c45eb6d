package api

// PendingList is the answer of GET /v1/pending, oldest first.
type PendingList struct {
	Pending []PendingNode `json:"pending"`
}

// NodePage is a page of nodes ordered by id. NextCursor is "" at the end.
type NodePage struct {
	Nodes      []Node `json:"nodes"`
	NextCursor string `json:"next_cursor"`
}

// Status is the answer of the probes under /healthz. Strangers learn no more
// than this; what is wrong stands in Health, on the admin socket.
type Status struct {
	Status string `json:"status"` // "ok", "failing" or "draining"
}
