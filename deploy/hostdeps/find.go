package hostdeps

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// minPostgres is the oldest major version that is taken; older ones are passed
// over as if absent.
const minPostgres = 15

// Missing is a program that was not found. Why is set when fetching would not
// help, for example when a variable points nowhere.
type Missing struct {
	Name string
	Why  string
}

// Found holds the programs that were found. The zero value holds none.
type Found struct {
	paths map[string]string // binary → absolute path
	dirs  map[string]string // program → its folder of the private prefix, "" for one of the system
}

// Path returns the absolute path of a binary such as "initdb" or "swtpm_setup",
// "" if it was not looked for. Binaries of the private prefix are small shell
// scripts that set the library path and exec the real one.
func (f Found) Path(binary string) string { return f.paths[binary] }

// Env returns what the environment of a program's binaries needs beyond the
// caller's own, in os.Environ's form: nothing for programs of the system, a PATH
// for those of the private prefix, so that swtpm_setup finds swtpm and certtool.
func (f Found) Env(program string) []string {
	if f.dirs[program] == "" {
		return nil
	}
	return []string{"PATH=" + joinPath(f.dirs[program])}
}

// Environ returns the variables that make the found programs the ones that
// others find: for tests and shells. The order is fixed.
func (f Found) Environ() []string {
	var out, dirs []string
	for _, p := range catalogue() {
		path, ok := f.paths[p.probe]
		if !ok {
			continue
		}
		if p.variable != "" {
			out = append(out, p.variable+"="+filepath.Dir(path))
		}
		if f.dirs[p.name] != "" {
			dirs = append(dirs, f.dirs[p.name])
		}
	}
	if len(dirs) > 0 {
		out = append(out, "PATH="+joinPath(dirs...))
	}
	return out
}

func joinPath(dirs ...string) string {
	if old := os.Getenv("PATH"); old != "" {
		dirs = append(slices.Clone(dirs), old)
	}
	return strings.Join(dirs, string(os.PathListSeparator))
}

// search looks for each program in the order that the package promises.
func (o Options) search(ctx context.Context, wanted []program) (Found, []Missing) {
	found := Found{paths: map[string]string{}, dirs: map[string]string{}}
	var missing []Missing
	for _, p := range wanted {
		paths, dir, why := o.locate(ctx, p)
		if paths == nil {
			missing = append(missing, Missing{Name: p.name, Why: why})
			continue
		}
		for binary, path := range paths {
			found.paths[binary] = path
		}
		found.dirs[p.name] = dir
	}
	return found, missing
}

func (o Options) locate(ctx context.Context, p program) (paths map[string]string, prefixDir, why string) {
	if !o.PrefixOnly {
		if p.variable != "" && os.Getenv(p.variable) != "" {
			paths, why = fromVariable(ctx, p)
			return paths, "", why
		}
		if paths := onSystem(ctx, p); paths != nil {
			return paths, "", ""
		}
	}
	dir, err := o.installed(p)
	if err != nil {
		return nil, "", err.Error()
	}
	if dir == "" {
		return nil, "", ""
	}
	return inFolder(ctx, p, dir), dir, ""
}

// fromVariable takes the named place or nothing: who set it does not want
// another one in silence.
func fromVariable(ctx context.Context, p program) (map[string]string, string) {
	dir := os.Getenv(p.variable)
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		dir = filepath.Dir(dir)
	}
	if paths := inFolder(ctx, p, dir); paths != nil {
		return paths, ""
	}
	return nil, fmt.Sprintf("%s=%s holds no usable %s", p.variable, os.Getenv(p.variable), strings.Join(p.binaries, ", "))
}

func onSystem(ctx context.Context, p program) map[string]string {
	paths := map[string]string{}
	for _, binary := range p.binaries {
		if path, err := exec.LookPath(binary); err == nil {
			paths[binary] = path
		}
	}
	switch p.name {
	case Python:
		return pythonOnSystem(ctx, p)
	case PgBouncer:
		if len(paths) == 0 {
			// Debian keeps it where users without root do not look.
			return inFolder(ctx, p, "/usr/sbin")
		}
	}
	if p.name != Postgres {
		if len(paths) == len(p.binaries) {
			return paths
		}
		return nil
	}
	// The three must be of one version: take the real folder of the server.
	var dirs []string
	if real, err := filepath.EvalSymlinks(paths["postgres"]); err == nil {
		dirs = append(dirs, filepath.Dir(real))
	}
	debian, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // the pattern is well formed
	slices.SortFunc(debian, func(a, b string) int { return debianMajor(b) - debianMajor(a) })
	for _, dir := range append(dirs, debian...) {
		if found := inFolder(ctx, p, dir); found != nil {
			return found
		}
	}
	return nil
}

// debianMajor reads the version out of /usr/lib/postgresql/15/bin, 0 for a name
// that is no number.
func debianMajor(bin string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
	return n
}

// inFolder returns the binaries of p if dir holds them all, in a version that
// is new enough.
func inFolder(ctx context.Context, p program, dir string) map[string]string {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil
	}
	paths := map[string]string{}
	for _, binary := range p.binaries {
		path, err := exec.LookPath(filepath.Join(dir, binary))
		if err != nil {
			return nil
		}
		paths[binary] = path
	}
	if p.name == Postgres && postgresMajor(ctx, paths["postgres"]) < minPostgres {
		return nil
	}
	if p.name == Python && !hasModules(ctx, paths["python3"]) {
		return nil
	}
	return paths
}

// pythonOnSystem takes the first Python that has the modules. One that a version
// manager put before that of the system rarely has; Debian keeps its own in
// /usr/bin.
func pythonOnSystem(ctx context.Context, p program) map[string]string {
	var dirs []string
	if path, err := exec.LookPath("python3"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	for _, dir := range append(dirs, "/usr/bin") {
		if found := inFolder(ctx, p, dir); found != nil {
			return found
		}
	}
	return nil
}

// hasModules asks a Python for what the tests need of it. It is isolated (-I):
// neither the environment nor the folder where it runs lends it modules.
func hasModules(ctx context.Context, path string) bool {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return exec.CommandContext(ctx, path, "-I", "-c", "import grpc, google.protobuf, jwt, cryptography").Run() == nil
}

var postgresVersion = regexp.MustCompile(`^postgres \(PostgreSQL\) ([0-9]+)`)

// postgresMajor asks a server program for its version; 0 if it does not say.
func postgresMajor(ctx context.Context, path string) int {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	text, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return 0
	}
	m := postgresVersion.FindSubmatch(text)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(string(m[1])) // digits; 0 for too many of them
	return n
}
