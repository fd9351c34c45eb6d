package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/zonebroker/zonebroker/migrations"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Migrate makes the database and the roles where they are missing and the DSN's
// role may make them, applies the migrations as the owner's role, and makes the
// partitions of the coming weeks. Progress may be nil. A schema of a later
// release is *migrations.NewerError, a changed file *migrations.ChangedError.
func Migrate(ctx context.Context, ownerDSN string, progress func(string)) error {
	if progress == nil {
		progress = func(string) {}
	}
	if err := migrate(ctx, ownerDSN, migrations.Apply, progress); err != nil {
		return err
	}
	return EnsurePartitions(ctx, ownerDSN, time.Time{})
}

func migrate(ctx context.Context, ownerDSN string, apply func(context.Context, *sql.DB, func(string)) error, progress func(string)) error {
	if err := bootstrap(ctx, ownerDSN, progress); err != nil {
		return err
	}
	cfg, err := ownerConfig(ownerDSN)
	if err != nil {
		return err
	}
	db := stdlib.OpenDB(*cfg, stdlib.OptionAfterConnect(becomeOwner))
	return errors.Join(apply(ctx, db, progress), db.Close())
}

func ownerConfig(dsn string) (*pgx.ConnConfig, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		// The parser's error may quote the password.
		return nil, errors.New("store: the owner's database URL does not parse")
	}
	cfg.ConnectTimeout = connectTimeout
	cfg.RuntimeParams["application_name"] = "zonebroker owner"
	cfg.RuntimeParams["search_path"] = "public"
	cfg.RuntimeParams["timezone"] = "UTC"
	return cfg, nil
}

func becomeOwner(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, "SET ROLE "+OwnerRole)
	return err
}

// connectOwner connects with the rights of the DSN's own role, and makes the
// database if it is the only thing missing.
func connectOwner(ctx context.Context, dsn string, progress func(string)) (*pgx.Conn, error) {
	cfg, err := ownerConfig(dsn)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	const noDatabase = "3D000"
	if err == nil {
		return conn, nil
	}
	if pgCode(err) != noDatabase {
		return nil, reason.Wrap(reason.StoreUnavailable, "the database does not answer", err)
	}
	admin := cfg.Copy()
	admin.Database = "postgres"
	if conn, err = pgx.ConnectConfig(ctx, admin); err != nil {
		return nil, fmt.Errorf("database %s does not exist: %w", cfg.Database, err)
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{cfg.Database}.Sanitize())
	const duplicateDatabase = "42P04"
	if err = errors.Join(err, conn.Close(ctx)); err != nil && pgCode(err) != duplicateDatabase && pgCode(err) != uniqueViolation {
		return nil, fmt.Errorf("database %s does not exist and this role may not make it: %w", cfg.Database, err)
	}
	progress("made database " + cfg.Database)
	return pgx.ConnectConfig(ctx, cfg)
}

// bootstrap makes the roles and gives the owner the schema. Each step is skipped
// where it is done, so that a role without rights can migrate what an
// administrator prepared.
func bootstrap(ctx context.Context, dsn string, progress func(string)) (err error) {
	conn, err := connectOwner(ctx, dsn, progress)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	// Replicas that start together take turns; the lock goes with the connection.
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock(hashtext('zonebroker bootstrap'))`); err != nil {
		return fmt.Errorf("prepare database: %w", err)
	}
	steps := []struct {
		missing, do string
		optional    bool // without it a broker needs a login of its own for questions
	}{
		{`SELECT NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'zb_owner')`, `CREATE ROLE zb_owner NOLOGIN`, false},
		{`SELECT NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'zb_writer')`, `CREATE ROLE zb_writer LOGIN`, false},
		{`SELECT NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'zb_reader')`, `CREATE ROLE zb_reader LOGIN`, false},
		{`SELECT NOT pg_has_role(session_user, 'zb_owner', 'MEMBER')`, `GRANT zb_owner TO session_user`, false},
		{`SELECT NOT has_schema_privilege('zb_owner', 'public', 'CREATE')`, `GRANT USAGE, CREATE ON SCHEMA public TO zb_owner`, false},
		{`SELECT NOT has_schema_privilege('zb_writer', 'public', 'USAGE')`, `GRANT USAGE ON SCHEMA public TO zb_writer`, false},
		{`SELECT NOT has_schema_privilege('zb_reader', 'public', 'USAGE')`, `GRANT USAGE ON SCHEMA public TO zb_reader`, false},
		{`SELECT NOT pg_has_role('zb_writer', 'zb_reader', 'MEMBER')`, `GRANT zb_reader TO zb_writer`, true},
	}
	for _, s := range steps {
		var missing bool
		if err := conn.QueryRow(ctx, s.missing).Scan(&missing); err != nil {
			return fmt.Errorf("prepare database: %w", err)
		}
		if !missing {
			continue
		}
		if _, err := conn.Exec(ctx, s.do); err != nil && !alreadyThere(err) {
			if s.optional {
				continue
			}
			return fmt.Errorf("the database role of the DSN may not run %q; let an administrator run it: %w", s.do, err)
		}
		progress(strings.ToLower(s.do))
	}
	return nil
}

// alreadyThere: roles belong to the whole server, and the start of a broker on
// another database of it may have made or granted one at this moment.
func alreadyThere(err error) bool {
	const duplicateObject, changedMeanwhile = "42710", "XX000"
	return pgCode(err) == duplicateObject || pgCode(err) == uniqueViolation || pgCode(err) == changedMeanwhile
}
