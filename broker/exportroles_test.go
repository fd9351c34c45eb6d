package broker

import "context"

// PollOperators reads the roles, as every second.
func (b *Broker) PollOperators(ctx context.Context) error { return b.pollOperators(ctx) }

// RevokedRoles returns how many revoked roles are remembered.
func (b *Broker) RevokedRoles() int {
	b.roles.mu.RLock()
	defer b.roles.mu.RUnlock()
	return len(b.roles.revoked)
}
