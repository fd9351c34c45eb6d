package broker

// CompareEvents is the heart of Explain, for tests of single differences.
var CompareEvents = compareEvents

// Logged reports whether a log says something about a boot.
func Logged(pcrs map[int][]byte, log []byte) bool { return newBoot("", pcrs, log, nil).logged }
