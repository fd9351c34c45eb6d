// Package test holds what is proved about the whole: the architecture, and the
// product end to end with real parts.
package test
