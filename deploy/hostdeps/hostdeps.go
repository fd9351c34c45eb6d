// Package hostdeps finds the programs of the host that Zonebroker runs, and
// fetches those that are missing.
//
// A program is looked for in the environment, in PATH, in the folders where
// Debian keeps Postgres, and last in a private prefix. On Debian and Ubuntu
// what is missing is fetched into that prefix with the system's own apt: its
// sources, its keys, its signatures, but lists, cache and package state of our
// own. It needs no root, changes nothing on the system, installs no service and
// runs no maintainer script; deleting the prefix undoes it. Elsewhere the
// caller gets the command to type.
//
// Nothing is fetched in silence: one line says what, how much and where, and a
// terminal is asked first.
package hostdeps

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// The programs, by the name of what a user would install.
const (
	Postgres  = "postgres"
	SWTPM     = "swtpm"
	TPM2Tools = "tpm2-tools"
	OpenSSL   = "openssl"
	// Python is python3 with the modules grpc, google.protobuf, jwt and
	// cryptography: the foreign client of the tests.
	Python = "python3"
	// PgBouncer is the pooler through which the tests reach Postgres.
	PgBouncer = "pgbouncer"
)

// Environment variables that are read.
const (
	// BinVariable names the folder of the Postgres programs.
	BinVariable = "ZONEBROKER_PG_BIN"
	// SWTPMVariable names the program swtpm, or the folder that it and its tools
	// are in.
	SWTPMVariable = "ZONEBROKER_SWTPM"
	// PgBouncerVariable names the program pgbouncer, or its folder.
	PgBouncerVariable = "ZONEBROKER_PGBOUNCER"
	// PrefixVariable names the private prefix. Trusted: an attacker who can
	// write there chooses the programs that are run.
	PrefixVariable = "ZONEBROKER_PREFIX"
)

// program is one thing that can be looked for and fetched.
type program struct {
	name     string
	variable string   // names its folder; "" if there is none
	binaries []string // all must be found together
	probe    string   // the binary that is tried after a fetch
	ask      string   // its argument then
	packages []string // of Debian; "postgresql-N" stands for the newest version
	megabyte int      // downloaded on a bare Debian 12, measured and rounded up
}

// listMegabytes is the download of the package lists, measured with the sources
// of a plain Debian 12.
const listMegabytes = 10

func catalogue() []program {
	return []program{
		{Postgres, BinVariable, []string{"postgres", "initdb", "pg_ctl"}, "postgres", "--version", []string{anyPostgres}, 33},
		{SWTPM, SWTPMVariable, []string{"swtpm", "swtpm_setup", "swtpm_localca"}, "swtpm", "--version", []string{"swtpm", "swtpm-tools"}, 5},
		{TPM2Tools, "", []string{"tpm2_checkquote"}, "tpm2_checkquote", "--version", []string{"tpm2-tools"}, 3},
		{OpenSSL, "", []string{"openssl"}, "openssl", "version", []string{"openssl"}, 3},
		{Python, "", []string{"python3"}, "python3", "--version", []string{"python3", "python3-grpcio", "python3-protobuf", "python3-jwt", "python3-cryptography"}, 12},
		{PgBouncer, PgBouncerVariable, []string{"pgbouncer"}, "pgbouncer", "--version", []string{"pgbouncer"}, 1},
	}
}

// selected returns the named programs, all of them for no name.
func selected(names []string) ([]program, error) {
	all := catalogue()
	if len(names) == 0 {
		return all, nil
	}
	var out []program
	for _, name := range names {
		i := slices.IndexFunc(all, func(p program) bool { return p.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no program %q is known", name)
		}
		out = append(out, all[i])
	}
	return out, nil
}

// Options says how Ensure may proceed. The zero value looks only, and refuses
// to fetch unless CI is set.
type Options struct {
	// Yes fetches without asking.
	Yes bool
	// In is asked if it is a terminal. Nil: standard input.
	In io.Reader
	// Err hears the one line and the question. Nil: standard error.
	Err io.Writer
	// Prefix is the private prefix. Empty: ZONEBROKER_PREFIX, else
	// /var/cache/zonebroker/host for root and zonebroker/host in the user's cache
	// folder for others.
	Prefix string
	// PrefixOnly takes no program of the system, so that what runs is known.
	PrefixOnly bool
}

// Find looks for programs and fetches nothing; no names means all.
func Find(ctx context.Context, programs ...string) (Found, []Missing) {
	wanted, err := selected(programs)
	if err != nil {
		return Found{}, []Missing{{Why: err.Error()}}
	}
	found, missing := Options{}.search(ctx, wanted)
	return found, missing
}

// Ensure looks for programs, no names meaning all, and fetches what is missing
// if it may. The error is one sentence that says what to do.
func Ensure(ctx context.Context, opts Options, programs ...string) (Found, error) {
	if opts.In == nil {
		opts.In = os.Stdin
	}
	if opts.Err == nil {
		opts.Err = os.Stderr
	}
	wanted, err := selected(programs)
	if err != nil {
		return Found{}, err
	}
	found, missing := opts.search(ctx, wanted)
	if len(missing) == 0 {
		return found, nil
	}
	for _, m := range missing {
		if m.Why != "" {
			return Found{}, fmt.Errorf("%s: %s", m.Name, m.Why)
		}
	}
	lacking, err := selected(names(missing))
	if err != nil {
		return Found{}, err
	}
	if !haveApt() {
		return Found{}, elsewhere(lacking)
	}
	if err := opts.consent(lacking); err != nil {
		return Found{}, err
	}
	if err := opts.fetch(ctx, lacking); err != nil {
		return Found{}, fmt.Errorf("fetch %s: %w", strings.Join(names(missing), ", "), err)
	}
	found, missing = opts.search(ctx, wanted)
	if len(missing) > 0 {
		return Found{}, fmt.Errorf("%s: still missing after the fetch", strings.Join(names(missing), ", "))
	}
	return found, nil
}

func names(missing []Missing) []string {
	var out []string
	for _, m := range missing {
		out = append(out, m.Name)
	}
	return out
}
