package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// BinVariable names the folder of the Postgres programs and comes before every
// other place.
const BinVariable = "ZONEBROKER_PG_BIN"

// ErrNoPostgres is returned when no usable programs are found.
var ErrNoPostgres = errors.New("no PostgreSQL programs found: install PostgreSQL 15 or later, or set " + BinVariable + " to the folder of postgres and initdb")

// programs is a folder with postgres and initdb of one known version.
type programs struct {
	bin   string
	env   []string
	major int
}

// FindBin returns the folder of postgres and initdb: that of ZONEBROKER_PG_BIN,
// else of PATH, else the highest version under /usr/lib/postgresql. It does not
// ask their version; Start does.
func FindBin() (string, error) {
	if dir := os.Getenv(BinVariable); dir != "" {
		if !hasPrograms(dir) {
			return "", fmt.Errorf("%s=%s: no postgres and initdb there", BinVariable, dir)
		}
		return dir, nil
	}
	if all := candidates(); len(all) > 0 {
		return all[0], nil
	}
	return "", ErrNoPostgres
}

// candidates lists the folders outside ZONEBROKER_PG_BIN, best first.
func candidates() []string {
	var dirs []string
	if path, err := exec.LookPath("postgres"); err == nil {
		// Debian's wrappers and hand-made links leave initdb elsewhere.
		if real, err := filepath.EvalSymlinks(path); err == nil && hasPrograms(filepath.Dir(real)) {
			dirs = append(dirs, filepath.Dir(real))
		}
	}
	installed, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // the pattern is well formed
	slices.SortFunc(installed, func(a, b string) int { return debianMajor(b) - debianMajor(a) })
	for _, dir := range installed {
		if hasPrograms(dir) && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// debianMajor reads the version out of /usr/lib/postgresql/15/bin.
func debianMajor(bin string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin))) // 0 for a name that is no number: last
	return n
}

func hasPrograms(dir string) bool {
	for _, name := range []string{"postgres", "initdb"} {
		if _, err := exec.LookPath(filepath.Join(dir, name)); err != nil {
			return false
		}
	}
	return true
}

// choosePrograms settles the programs for a folder. Where the caller named none
// and a cluster exists, the version that made it wins over a newer one.
func choosePrograms(ctx context.Context, cfg Config, f *folder) (programs, error) {
	made, err := f.clusterVersion()
	if err != nil {
		return programs{}, err
	}
	bin := cfg.Bin
	if bin == "" {
		if bin, err = FindBin(); err != nil {
			return programs{}, err
		}
	}
	g, err := identify(ctx, bin, cfg.Env, f)
	if err != nil {
		return programs{}, err
	}
	if made == 0 || made == g.major {
		return g, nil
	}
	if cfg.Bin == "" && os.Getenv(BinVariable) == "" {
		for _, dir := range candidates() {
			if other, err := identify(ctx, dir, cfg.Env, f); err == nil && other.major == made {
				return other, nil
			}
		}
	}
	return programs{}, fmt.Errorf("the cluster was made by PostgreSQL %d, and the programs in %s are version %d: set %s to the folder of version %d",
		made, g.bin, g.major, BinVariable, made)
}

var versionLine = regexp.MustCompile(`^postgres \(PostgreSQL\) ([0-9]+)`)

// identify asks the programs for their version and refuses old ones.
func identify(ctx context.Context, bin string, env []string, f *folder) (programs, error) {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return programs{}, err
	}
	if !hasPrograms(bin) {
		return programs{}, fmt.Errorf("no postgres and initdb in %s", bin)
	}
	if err := f.runAs.mayEnter(bin); err != nil {
		return programs{}, err
	}
	g := programs{bin: bin, env: env}
	text, err := g.output(ctx, f, "postgres", "--version")
	if err != nil {
		return programs{}, err
	}
	m := versionLine.FindStringSubmatch(text)
	if m == nil {
		return programs{}, fmt.Errorf("%s/postgres does not say its version", bin)
	}
	if g.major, err = strconv.Atoi(m[1]); err != nil || g.major < MinVersion {
		return programs{}, fmt.Errorf("PostgreSQL %d or later is needed, and %s is version %s", MinVersion, bin, m[1])
	}
	return g, nil
}
