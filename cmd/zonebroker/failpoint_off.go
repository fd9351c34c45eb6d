//go:build !failpoint

package main

import "time"

// now is the clock of the product.
var now = time.Now

// failpoint is nil in every build that ships: steps have no names there.
var failpoint func(string)
