package hostdeps

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// anyPostgres stands for the newest postgresql-N that apt offers.
const anyPostgres = "postgresql-N"

// fetchLimit is for a slow line; apt itself gives up on a dead one earlier.
const fetchLimit = 20 * time.Minute

func haveApt() bool {
	for _, name := range []string{"apt-get", "apt-cache", "apt-config", "dpkg"} {
		if _, err := exec.LookPath(name); err != nil {
			return false
		}
	}
	return true
}

// apt is a private state of apt: own lists, cache and package state, and the
// system's sources and keys.
type apt struct {
	dir     string // removed afterwards
	config  string
	present map[string]bool // packages that are never unpacked
}

// fetch brings the programs into the prefix, one after the other; what is
// complete stays when a later one fails.
func (o Options) fetch(ctx context.Context, lacking []program) error {
	ctx, cancel := context.WithTimeout(ctx, fetchLimit)
	defer cancel()
	prefix, err := o.prefix()
	if err != nil {
		return err
	}
	unlock, err := lockPrefix(ctx, prefix)
	if err != nil {
		return err
	}
	defer unlock()
	work := filepath.Join(prefix, ".work")
	if err := os.RemoveAll(work); err != nil { // of a fetch that was killed
		return err
	}
	defer os.RemoveAll(work)
	var a *apt
	for _, p := range lacking {
		if dir, err := o.installed(p); err == nil && dir != "" {
			continue // another fetch was faster
		}
		if a == nil {
			if a, err = newApt(ctx, work); err != nil {
				return err
			}
		}
		if err := a.install(ctx, p, filepath.Join(prefix, p.name)); err != nil {
			return err
		}
	}
	return nil
}

// newApt prepares the state and reads the package lists.
func newApt(ctx context.Context, dir string) (*apt, error) {
	a := &apt{dir: dir, config: filepath.Join(dir, "apt.conf")}
	for _, sub := range []string{"state/lists/partial", "cache/archives/partial", "empty/partial", "log"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	architecture, err := run(ctx, nil, "dpkg", "--print-architecture")
	if err != nil {
		return nil, err
	}
	status, err := os.ReadFile("/var/lib/dpkg/status")
	if err != nil {
		return nil, err
	}
	text, present := resolverStatus(string(status), strings.TrimSpace(architecture))
	a.present = present
	if err := os.WriteFile(filepath.Join(dir, "status"), []byte(text), 0o644); err != nil {
		return nil, err
	}
	config, err := aptConfig(ctx, dir)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(a.config, []byte(config), 0o644); err != nil {
		return nil, err
	}
	// One source of many that cannot be read is no reason to give up.
	_, updateErr := a.run(ctx, "apt-get", "-qq", "update")
	if _, err := a.run(ctx, "apt-cache", "show", "swtpm"); err != nil {
		return nil, errors.Join(fmt.Errorf("the package lists could not be read: is there a network? %w", err), updateErr)
	}
	return a, nil
}

// aptConfig keeps how the system reaches its sources (proxies, certificates)
// and none of its hooks, which could touch the system.
func aptConfig(ctx context.Context, dir string) (string, error) {
	dump, err := run(ctx, nil, "apt-config", "dump")
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for line := range strings.Lines(dump) {
		if strings.HasPrefix(line, "Acquire::") {
			b.WriteString(line)
		}
	}
	fmt.Fprintf(&b, `Dir::Etc::Parts "/dev/null";
Dir::Etc::Main "/dev/null";
Dir::State "%[1]s/state";
Dir::State::Lists "%[1]s/state/lists";
Dir::State::status "%[1]s/status";
Dir::Cache "%[1]s/cache";
Dir::Log "%[1]s/log";
Debug::NoLocking "true";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Get::Assume-Yes "true";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
`, dir)
	return b.String(), nil
}

// install fetches one program with all that it needs, unpacks it beside its
// place, tries it there and renames it into place.
func (a *apt) install(ctx context.Context, p program, final string) error {
	packages, err := a.resolve(ctx, p.packages)
	if err != nil {
		return err
	}
	archives, err := a.download(ctx, packages)
	if err != nil {
		return err
	}
	dir := filepath.Join(a.dir, p.name)
	root := filepath.Join(dir, "root")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	for _, archive := range archives {
		if _, err := run(ctx, nil, "dpkg", "-x", archive, root); err != nil {
			return err
		}
	}
	if err := writeScripts(dir, dir); err != nil {
		return err
	}
	if _, err := run(ctx, nil, filepath.Join(dir, "bin", p.probe), p.ask); err != nil {
		return fmt.Errorf("the fetched program does not run: %w", err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "bin")); err != nil {
		return err
	}
	if err := writeScripts(dir, final); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "release"), []byte(release()), 0o644); err != nil {
		return err
	}
	if err := os.RemoveAll(final); err != nil { // of another release
		return err
	}
	return os.Rename(dir, final)
}

var numberedPostgres = regexp.MustCompile(`(?m)^postgresql-([0-9]+)$`)

// resolve replaces anyPostgres by the newest version on offer.
func (a *apt) resolve(ctx context.Context, packages []string) ([]string, error) {
	var out []string
	for _, name := range packages {
		if name != anyPostgres {
			out = append(out, name)
			continue
		}
		text, err := a.run(ctx, "apt-cache", "pkgnames", "postgresql-")
		if err != nil {
			return nil, err
		}
		best := 0
		for _, m := range numberedPostgres.FindAllStringSubmatch(text, -1) {
			if n, err := strconv.Atoi(m[1]); err == nil {
				best = max(best, n)
			}
		}
		if best < minPostgres {
			return nil, fmt.Errorf("the sources of this system offer no PostgreSQL %d or later: install one and set %s", minPostgres, BinVariable)
		}
		out = append(out, "postgresql-"+strconv.Itoa(best))
	}
	return out, nil
}

// download fetches the packages and their dependencies, checked by apt against
// the signed lists, and returns the archives that must be unpacked.
func (a *apt) download(ctx context.Context, packages []string) ([]string, error) {
	// apt leaves out of its plan what it has fetched already, for another
	// program: the plan is made over an empty cache.
	plan, err := a.run(ctx, "apt-get", append([]string{
		"-qq", "-o", "Dir::Cache::archives=" + filepath.Join(a.dir, "empty"), "--print-uris", "install",
	}, packages...)...)
	if err != nil {
		return nil, err
	}
	if _, err := a.run(ctx, "apt-get", append([]string{"-qq", "--download-only", "install"}, packages...)...); err != nil {
		return nil, err
	}
	var archives []string
	for line := range strings.Lines(plan) {
		fields := strings.Fields(line)
		if len(fields) < 3 || !strings.HasPrefix(fields[0], "'") {
			continue
		}
		name, _, _ := strings.Cut(fields[1], "_")
		if !a.present[name] {
			archives = append(archives, filepath.Join(a.dir, "cache/archives", filepath.Base(fields[1])))
		}
	}
	if len(archives) == 0 {
		return nil, fmt.Errorf("apt has nothing to fetch for %s", strings.Join(packages, " "))
	}
	return archives, nil
}

func (a *apt) run(ctx context.Context, name string, args ...string) (string, error) {
	return run(ctx, []string{"APT_CONFIG=" + a.config, "DEBIAN_FRONTEND=noninteractive"}, name, args...)
}

// run returns a command's output; an error carries what it said last.
func run(ctx context.Context, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(append(os.Environ(), "LC_ALL=C"), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		said := strings.TrimSpace(errs.String())
		return "", fmt.Errorf("%s: %w: %s", filepath.Base(name), err, said[strings.LastIndexByte(said, '\n')+1:])
	}
	return out.String(), nil
}
