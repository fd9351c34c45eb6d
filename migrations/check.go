package migrations

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"slices"
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
	Version   int64
	Name      string
	SHA256    []byte
	WorksWith int64 // 0 where it does not declare an earlier schema
}

// AppliedSQL reads what Compare takes, in this order of columns; where the table
// schema_compatible does not exist yet, AppliedSQL3 does.
const (
	AppliedSQL = `SELECT version, name, sha256, 0::bigint FROM schema_file
		UNION ALL SELECT version, name, sha256, works_with FROM schema_compatible ORDER BY version`
	AppliedSQL3 = `SELECT version, name, sha256, 0::bigint FROM schema_file ORDER BY version`
)

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
	if have < known || missing(applied, all) {
		return &OlderError{Have: have, Known: known}
	}
	return nil
}

// missing reports whether a migration of this program was not applied.
func missing(applied []Applied, all []File) bool {
	return slices.ContainsFunc(all, func(f File) bool {
		return !slices.ContainsFunc(applied, func(a Applied) bool { return a.Version == f.Version })
	})
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
		case a.Version > last && a.WorksWith != 0 && a.WorksWith <= last:
			// A later release migrated it, and left it to this one.
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
	var exists, declared bool
	const tables = `SELECT to_regclass('schema_file') IS NOT NULL, to_regclass('schema_compatible') IS NOT NULL`
	if err := db.QueryRowContext(ctx, tables).Scan(&exists, &declared); err != nil || !exists {
		return err
	}
	query := AppliedSQL3
	if declared {
		query = AppliedSQL
	}
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	var applied []Applied
	for rows.Next() {
		var a Applied
		if err := rows.Scan(&a.Version, &a.Name, &a.SHA256, &a.WorksWith); err != nil {
			return err
		}
		applied = append(applied, a)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return compare(applied, all)
}
