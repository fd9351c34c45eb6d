//go:build !linux

package hostdeps

import "io"

// isTerminal is not needed where nothing can be fetched.
func isTerminal(io.Reader) bool { return false }
