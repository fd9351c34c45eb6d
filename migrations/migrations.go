// Package migrations holds the schema of the history as numbered SQL files and
// applies them with goose, one transaction a file. Files are only ever added:
// the SHA-256 of each applied file stands in the database, and a program that
// meets a file it knows otherwise, or a newer one that does not declare that it
// works with this program's schema, stops.
package migrations

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed *.sql
var files embed.FS

// File is one migration.
type File struct {
	Version int64
	Name    string
	SHA256  [32]byte
	// WorksWith is the oldest schema whose programs go on working on this one, 0 where
	// the file declares none. It says so in its first line.
	WorksWith int64
	sql       string
}

// worksWith is the first line of a file that programs of an earlier schema go on
// working with: their replicas run and restart while others are upgraded.
var worksWith = regexp.MustCompile(`\A-- works with programs of schema ([1-9][0-9]*)\n`)

// newFile reads the declaration of a migration.
func newFile(version int64, name string, raw []byte) (File, error) {
	f := File{Version: version, Name: name, SHA256: sha256.Sum256(raw), sql: string(raw)}
	m := worksWith.FindSubmatch(raw)
	if m == nil {
		return f, nil
	}
	var err error
	if f.WorksWith, err = strconv.ParseInt(string(m[1]), 10, 64); err != nil || f.WorksWith >= version {
		return f, fmt.Errorf("migration %s works with programs of schema %s, which is no earlier one", name, m[1])
	}
	return f, nil
}

// All returns the migrations in order.
func All() ([]File, error) {
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		return nil, err
	}
	out := make([]File, 0, len(names))
	for _, name := range names {
		raw, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		version, err := goose.NumericComponent(name)
		if err != nil {
			return nil, fmt.Errorf("migration %s: %w", name, err)
		}
		f, err := newFile(version, name, raw)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b File) int { return int(a.Version - b.Version) })
	return out, nil
}

// Apply brings the schema up to date. Db must connect as the owner's role;
// replicas that start together wait for one another. Progress, which may be
// nil, hears of each file.
func Apply(ctx context.Context, db *sql.DB, progress func(string)) error {
	all, err := All()
	if err != nil {
		return err
	}
	return apply(ctx, db, all, progress)
}

// ApplyTo brings the schema to a version and no further: what a program of that
// release would do.
func ApplyTo(ctx context.Context, db *sql.DB, version int64, progress func(string)) error {
	all, err := All()
	if err != nil {
		return err
	}
	known := slices.DeleteFunc(all, func(f File) bool { return f.Version > version })
	return apply(ctx, db, known, progress)
}

func apply(ctx context.Context, db *sql.DB, all []File, progress func(string)) error {
	if err := refuseForeign(ctx, db, all); err != nil {
		return err
	}
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return err
	}
	steps := make([]*goose.Migration, len(all))
	for i, f := range all {
		steps[i] = goose.NewGoMigration(f.Version, &goose.GoFunc{RunTx: f.run}, nil)
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, nil,
		goose.WithGoMigrations(steps...), goose.WithDisableGlobalRegistry(true), goose.WithSessionLocker(locker))
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	results, err := p.Up(ctx)
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	for _, r := range results {
		for _, f := range all {
			if f.Version == r.Source.Version && progress != nil {
				progress("applied " + f.Name)
			}
		}
	}
	return nil
}

// run applies the file and remembers its hash in the same transaction, so that
// no crash leaves one without the other.
func (f File) run(ctx context.Context, tx *sql.Tx) error {
	if _, err := tx.ExecContext(ctx, f.sql); err != nil {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	if f.WorksWith != 0 {
		const remember = `INSERT INTO schema_compatible (version, name, sha256, works_with) VALUES ($1, $2, $3, $4)`
		_, err := tx.ExecContext(ctx, remember, f.Version, f.Name, f.SHA256[:], f.WorksWith)
		return err
	}
	const remember = `INSERT INTO schema_file (version, name, sha256) VALUES ($1, $2, $3)`
	_, err := tx.ExecContext(ctx, remember, f.Version, f.Name, f.SHA256[:])
	return err
}
