package hostdeps

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// ErrNotAllowed is returned when something is missing and nobody agreed to fetch
// it.
var ErrNotAllowed = errors.New("nothing was fetched")

// consent says in one line what will be fetched, and obtains leave for it.
func (o Options) consent(lacking []program) error {
	prefix, err := o.prefix()
	if err != nil {
		return err
	}
	fmt.Fprintf(o.Err, "zonebroker needs %s: fetching about %d MB of this system's packages into %s (no root, nothing else changes; delete the folder to undo)\n",
		list(lacking), megabytes(lacking), prefix)
	switch {
	case o.Yes || ci():
		return nil
	case !isTerminal(o.In):
		return fmt.Errorf("%w: there is no terminal to ask; set CI=1 or pass --yes to fetch, or type: %s", ErrNotAllowed, aptCommand(lacking))
	}
	fmt.Fprint(o.Err, "Go on? [Y/n] ")
	answer, err := bufio.NewReader(io.LimitReader(o.In, 1024)).ReadString('\n')
	if err != nil {
		return fmt.Errorf("%w: no answer", ErrNotAllowed)
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "", "y", "yes":
		return nil
	}
	return fmt.Errorf("%w, as you said; to install for the whole system type: %s", ErrNotAllowed, aptCommand(lacking))
}

func ci() bool {
	switch os.Getenv("CI") {
	case "1", "true":
		return true
	}
	return false
}

func list(programs []program) string {
	var names []string
	for _, p := range programs {
		names = append(names, p.name)
	}
	return strings.Join(names, ", ")
}

func megabytes(programs []program) int {
	sum := listMegabytes
	for _, p := range programs {
		sum += p.megabyte
	}
	return sum
}

func aptCommand(programs []program) string {
	var packages []string
	for _, p := range programs {
		for _, name := range p.packages {
			if name == anyPostgres {
				name = "postgresql"
			}
			packages = append(packages, name)
		}
	}
	return "sudo apt-get install " + strings.Join(packages, " ")
}

// elsewhere is the sentence for systems without apt.
func elsewhere(lacking []program) error {
	for _, manager := range []struct {
		program, command string
		packages         map[string]string
	}{
		{"dnf", "sudo dnf install", map[string]string{Postgres: "postgresql-server", SWTPM: "swtpm swtpm-tools", TPM2Tools: "tpm2-tools", OpenSSL: "openssl", Python: "python3-grpcio python3-protobuf python3-jwt python3-cryptography", PgBouncer: "pgbouncer"}},
		{"zypper", "sudo zypper install", map[string]string{Postgres: "postgresql-server", SWTPM: "swtpm", TPM2Tools: "tpm2.0-tools", OpenSSL: "openssl", Python: "python3-grpcio python3-protobuf python3-PyJWT python3-cryptography", PgBouncer: "pgbouncer"}},
		{"pacman", "sudo pacman -S", map[string]string{Postgres: "postgresql", SWTPM: "swtpm", TPM2Tools: "tpm2-tools", OpenSSL: "openssl", Python: "python-grpcio python-protobuf python-pyjwt python-cryptography", PgBouncer: "pgbouncer"}},
		{"apk", "sudo apk add", map[string]string{Postgres: "postgresql", SWTPM: "swtpm", TPM2Tools: "tpm2-tools", OpenSSL: "openssl", Python: "py3-grpcio py3-protobuf py3-jwt py3-cryptography", PgBouncer: "pgbouncer"}},
		{"brew", "brew install", map[string]string{Postgres: "postgresql@16", SWTPM: "swtpm", OpenSSL: "openssl", PgBouncer: "pgbouncer"}},
	} {
		if _, err := exec.LookPath(manager.program); err != nil {
			continue
		}
		command := manager.command
		for _, p := range lacking {
			if manager.packages[p.name] == "" {
				return fmt.Errorf("%s is missing and %s has no package of it", p.name, manager.program)
			}
			command += " " + manager.packages[p.name]
		}
		return fmt.Errorf("missing: %s; type: %s", list(lacking), command)
	}
	return fmt.Errorf("missing: %s; install PostgreSQL %d or later, swtpm with swtpm_setup, and tpm2-tools, or name their folders in %s and %s",
		list(lacking), minPostgres, BinVariable, SWTPMVariable)
}
