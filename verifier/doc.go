// Package verifier turns evidence into an Appraisal: facts that were proved and
// findings about what was checked. It judges and nothing else: no network, no
// clock, no environment, no policy. The time of judgement is an argument, so
// that a record of the history can be judged again years later with the same
// outcome.
//
// An Appraisal has private fields and one constructor, Appraise; it is all that
// policy can see of the evidence. What was sent but not proved has no way into
// it.
//
// Formats are listed in one table (formats.go); nothing registers itself.
package verifier
