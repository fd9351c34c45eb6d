package broker

import "context"

// PollOperators reads the roles, as every second.
func (b *Broker) PollOperators(ctx context.Context) error { return b.pollOperators(ctx) }
