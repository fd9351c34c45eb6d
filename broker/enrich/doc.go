// Package enrich asks platforms about documents at the time of an attestation:
// whether the instance of an identity document still runs, who signed a
// GetCallerIdentity request, whether a pod's token was revoked. It only asks and
// writes down: what was answered becomes a part of the document, in one form, and
// the verifier judges it, so that the history can be judged again without asking.
//
// All of it is off until it is configured. Addresses come from tables and from the
// operator, never from evidence; a document chooses at most a region out of a table
// and names in a path or a query, in a form that was checked. Redirects are not
// followed, proxies not used, answers bounded in bytes and time. A document that
// names something is asked about before or after it was verified; either way the
// answer counts only for what the verified document names.
package enrich
