// Package evidencefile reads, writes and judges evidence files: evidence with
// everything that it has to match (api.EvidenceFile), which the history exports
// and which anybody makes of a capture.
//
// It trusts the context of a file as a broker trusts itself: whoever wrote the
// file chose nonce, roots and time. What a verdict is worth lies in where the
// file is from, and the file says nothing about that. The evidence in it is
// judged as if a stranger had sent it.
//
// The package is pure: no clock, no files, no network.
package evidencefile
