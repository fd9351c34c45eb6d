package client

// RetryAfter shows the header's parser to the tests.
var RetryAfter = retryAfter
