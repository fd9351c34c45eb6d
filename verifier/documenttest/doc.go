// Package documenttest makes documents of platforms under keys and certificates
// of its own: for tests, where no real sample is to be had or a real one cannot be
// changed. What it makes has the shape of the real thing and is signed by nobody
// that a platform knows.
package documenttest
