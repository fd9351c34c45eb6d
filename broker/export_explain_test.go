package broker

// CompareEvents is the heart of Explain, for tests of single differences.
var CompareEvents = compareEvents
