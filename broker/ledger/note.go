package ledger

import "golang.org/x/mod/sumdb/note"

// NoteVerifier opens signed checkpoints of a log.
type NoteVerifier = note.Verifier
