package migrations

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
)

// NewerError says that the database was migrated by a later release.
type NewerError struct {
	Have, Known int64 // versions of the database and of this program
}

// Error returns one sentence for the operator.
func (e *NewerError) Error() string {
	return fmt.Sprintf("the database has schema %d and this program knows schemas up to %d: start the release that migrated it, or a later one", e.Have, e.Known)
}

// OlderError says that migrations have not been applied yet.
type OlderError struct {
	Have, Known int64
}

// Error returns one sentence for the operator.
func (e *OlderError) Error() string {
	return fmt.Sprintf("the database has schema %d and this program needs %d: let the owner's role migrate it first", e.Have, e.Known)
}

// ChangedError says that an applied migration is not the one of this program.
type ChangedError struct {
	File string
}

// Error returns one sentence for the operator.
func (e *ChangedError) Error() string {
	return fmt.Sprintf("migration %s was applied to this database in another form than this program has: somebody changed a released file, or the database belongs to another build", e.File)
}

// Applied is a migration as the database remembers it.
type Applied struct {
	Version int64
	Name    string
	SHA256  []byte
}

// AppliedSQL reads what Compare takes, in this order of columns.
const AppliedSQL = `SELECT version, name, sha256 FROM schema_file ORDER BY version`

// Compare says whether a database with these migrations fits this program: nil,
// or *NewerError, *OlderError or *ChangedError.
func Compare(applied []Applied) error {
	all, err := All()
	if err != nil {
		return err
	}
	if err := compare(applied, all); err != nil {
		return err
	}
	known, have := all[len(all)-1].Version, int64(0)
	if len(applied) > 0 {
		have = applied[len(applied)-1].Version
	}
	if have < known || len(applied) < len(all) {
		return &OlderError{Have: have, Known: known}
	}
	return nil
}

func compare(applied []Applied, all []File) error {
	known := make(map[int64]File, len(all))
	var last int64
	for _, f := range all {
		known[f.Version] = f
		last = max(last, f.Version)
	}
	for _, a := range applied {
		f, ok := known[a.Version]
		switch {
		case a.Version > last:
			return &NewerError{Have: applied[len(applied)-1].Version, Known: last}
		case !ok || !bytes.Equal(a.SHA256, f.SHA256[:]):
			return &ChangedError{File: a.Name}
		}
	}
	return nil
}

// refuseForeign stops before goose looks at a database that is not ours to
// migrate.
func refuseForeign(ctx context.Context, db *sql.DB, all []File) error {
	var exists bool
	if err := db.QueryRowContext(ctx, `SELECT to_regclass('schema_file') IS NOT NULL`).Scan(&exists); err != nil || !exists {
		return err
	}
	rows, err := db.QueryContext(ctx, AppliedSQL)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	var applied []Applied
	for rows.Next() {
		var a Applied
		if err := rows.Scan(&a.Version, &a.Name, &a.SHA256); err != nil {
			return err
		}
		applied = append(applied, a)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return compare(applied, all)
}
