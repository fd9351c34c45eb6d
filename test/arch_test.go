package test_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/zonebroker/zonebroker"

// forbiddenInPure are the ways out of a pure room; net/url and net/netip only
// parse.
func forbiddenInPure(name string) bool {
	switch name {
	case "os", "net", "net/http", "syscall", "log", "database/sql", "plugin":
		return true
	}
	return strings.HasPrefix(name, "os/") || strings.HasPrefix(name, "net/http/") ||
		strings.HasPrefix(name, "github.com/jackc/pgx")
}

// readsClock names the functions of time that ask the system.
func readsClock(name string) bool {
	switch name {
	case "Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker":
		return true
	}
	return false
}

// testOnly are packages that only tests may import.
func testOnly(name string) bool {
	switch name {
	case "testing", "net/http/httptest", "github.com/google/go-cmp/cmp":
		return true
	}
	return strings.HasPrefix(name, "testing/") || strings.HasPrefix(name, "github.com/rogpeppe/go-internal/") ||
		strings.HasPrefix(name, "github.com/getkin/kin-openapi/")
}

// violations judges one file by its path in the repository. Build tags do not
// hide a file from it.
func violations(name string, source []byte) ([]string, error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, source, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	folder := path.Dir(name)
	r, ok := roomOf(folder)
	if !ok {
		return []string{name + ": the folder belongs to no room of the design"}, nil
	}
	isTest := strings.HasSuffix(name, "_test.go")
	var found []string
	complain := func(at ast.Node, format string, args ...any) {
		found = append(found, fmt.Sprintf("%s: %s", files.Position(at.Pos()), fmt.Sprintf(format, args...)))
	}
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		if why := judgeImport(r, folder, imported, isTest); why != "" {
			complain(spec, "%s", why)
		}
		if spec.Name != nil && spec.Name.Name == "." && !isTest {
			complain(spec, "a dot import hides where names come from")
		}
	}
	if r.pure && !isTest {
		for _, at := range clockReads(file) {
			complain(at, "%s is pure: the time is an argument", r.path)
		}
	}
	return found, nil
}

// judgeImport returns why a folder of a room may not import a package, "" if it
// may. Tests may import what they need, except the commands.
func judgeImport(r room, folder, imported string, isTest bool) string {
	target, ours := strings.CutPrefix(imported, module+"/")
	switch {
	case ours && strings.HasPrefix(target, "cmd/") && !strings.HasPrefix(folder, "cmd/"):
		return "nothing imports a command"
	case isTest:
		return ""
	case ours && isHelper(target) && !isHelper(folder):
		return "shipped code imports the test helper " + target
	case testOnly(imported) && !isHelper(folder):
		return "shipped code imports " + imported
	case r.pure && forbiddenInPure(imported):
		return r.path + " is pure and imports " + imported
	case ours:
		if target == "verifier/reason" || target == folder || covers(r.inside, target) {
			return ""
		}
		return r.path + " may not import " + target
	case strings.Contains(strings.Split(imported, "/")[0], "."):
		if slices.ContainsFunc(r.modules, func(m string) bool {
			return imported == m || strings.HasPrefix(imported, strings.TrimSuffix(m, "/")+"/")
		}) || testOnly(imported) {
			return ""
		}
		return r.path + " may not import the module of " + imported
	}
	return ""
}

// clockReads lists the places that name one of time's clock functions, called
// or handed on.
func clockReads(file *ast.File) []ast.Node {
	local := ""
	for _, spec := range file.Imports {
		if spec.Path.Value == `"time"` {
			local = "time"
			if spec.Name != nil {
				local = spec.Name.Name
			}
		}
	}
	var found []ast.Node
	if local == "" {
		return nil
	}
	ast.Inspect(file, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); ok && x.Name == local && readsClock(sel.Sel.Name) {
			found = append(found, sel)
		}
		return true
	})
	return found
}

func repository(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the test")
		}
		dir = filepath.Dir(dir)
	}
}

func TestArchitectureIsThatOfTheDesign(t *testing.T) {
	root := repository(t)
	judged := 0
	err := filepath.WalkDir(root, func(full string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, full)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if base := entry.Name(); base == "testdata" || name != "." && strings.HasPrefix(base, ".") || name == "bin" {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		source, err := os.ReadFile(full)
		if err != nil {
			return err
		}
		found, err := violations(filepath.ToSlash(name), source)
		if err != nil {
			return err
		}
		judged++
		for _, v := range found {
			t.Error(v)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if judged < 50 {
		t.Errorf("only %d files were judged", judged)
	}
	t.Logf("%d files judged", judged)
}

// TestArchitectureTestFindsViolations feeds made-up files to the judge.
func TestArchitectureTestFindsViolations(t *testing.T) {
	for name, c := range map[string]struct{ file, imports, body, want string }{
		"verifier reads files":           {"verifier/tpm2/x.go", `"os"`, "", "is pure"},
		"verifier runs programs":         {"verifier/x.go", `"os/exec"`, "", "is pure"},
		"verifier talks HTTP":            {"verifier/x.go", `"net/http"`, "", "is pure"},
		"verifier resolves":              {"verifier/x.go", `"net"`, "", "is pure"},
		"verifier asks for the time":     {"verifier/x.go", `"time"`, "var t = time.Now()", "time is an argument"},
		"policy hands the clock on":      {"broker/policy/x.go", `"time"`, "var now = time.Now", "time is an argument"},
		"claim renames the clock":        {"broker/claim/x.go", `clock "time"`, "var d = clock.Since(clock.Time{})", "time is an argument"},
		"ledger uses the database":       {"broker/ledger/x.go", `"github.com/jackc/pgx/v5"`, "", "is pure"},
		"policy speaks HTTP tests":       {"broker/policy/x.go", `"net/http/httptrace"`, "", "is pure"},
		"broker imports the store":       {"broker/x.go", `"` + module + `/store"`, "", "may not import store"},
		"store imports the pipeline":     {"store/x.go", `"` + module + `/broker"`, "", "may not import broker"},
		"store imports the issuer":       {"store/x.go", `"` + module + `/broker/issuer"`, "", "may not import"},
		"store imports the policy":       {"store/x.go", `"` + module + `/broker/policy"`, "", "may not import"},
		"agent imports a server's room":  {"broker/agent/swtpm/x.go", `"` + module + `/broker/ledger"`, "", "may not import"},
		"client imports the verifier":    {"broker/client/x.go", `"` + module + `/verifier"`, "", "may not import"},
		"server imports the store":       {"broker/server/x.go", `"` + module + `/store"`, "", "may not import"},
		"verifier imports the broker":    {"verifier/x.go", `"` + module + `/broker/ledger"`, "", "may not import"},
		"claim imports the verifier":     {"broker/claim/x.go", `"` + module + `/verifier"`, "", "may not import"},
		"anything imports a command":     {"broker/x.go", `"` + module + `/cmd/zonebroker"`, "", "nothing imports a command"},
		"a test imports a command":       {"test/x_test.go", `"` + module + `/cmd/zonebroker"`, "", "nothing imports a command"},
		"cmd imports a test helper":      {"cmd/zonebroker/x.go", `"` + module + `/store/storetest"`, "", "test helper"},
		"store imports its helper":       {"store/x.go", `"` + module + `/store/storetest"`, "", "test helper"},
		"shipped code imports testing":   {"broker/agent/x.go", `"testing"`, "", "imports testing"},
		"shipped code imports httptest":  {"broker/server/x.go", `"net/http/httptest"`, "", "imports net/http/httptest"},
		"a module of another room":       {"broker/client/x.go", `"github.com/go-chi/chi/v5"`, "", "may not import the module"},
		"a module nobody allowed":        {"broker/x.go", `"example.org/clever"`, "", "may not import the module"},
		"a module with an allowed start": {"store/x.go", `"github.com/google/uuidx"`, "", "may not import the module"},
		"a dot import":                   {"verifier/x.go", `. "time"`, "", "dot import"},
		"a folder without a room":        {"helpers/x.go", `"fmt"`, "", "no room"},
		"hidden behind a build tag":      {"broker/x_failpoint.go", `"` + module + `/store"`, "", "may not import store"},
	} {
		t.Run(name, func(t *testing.T) {
			source := "//go:build failpoint\n\npackage x\n\nimport " + c.imports + "\n\n" + c.body + "\n"
			found, err := violations(c.file, []byte(source))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(found, func(v string) bool { return strings.Contains(v, c.want) }) {
				t.Errorf("found %q, want %q", found, c.want)
			}
		})
	}
}

func TestArchitectureTestAllowsTheDesign(t *testing.T) {
	for file, imports := range map[string][]string{
		"verifier/tpm2/x.go":             {"net/url", "net/netip", "time", module + "/verifier/reason", "github.com/google/go-tpm/tpm2"},
		"verifier/tpm2/x_test.go":        {"os", "net/http", "testing"},
		"broker/x.go":                    {"os", module + "/verifier/tpm2", module + "/broker/api", module + "/verifier/reason"},
		"store/x.go":                     {module + "/broker/ledger", module + "/broker/claim", "github.com/jackc/pgx/v5/pgxpool"},
		"store/storetest/x.go":           {"testing", module + "/store", module + "/store/embedded"},
		"broker/claim/claimhttp/x.go":    {"net/http", module + "/broker/claim"},
		"cmd/zonebroker/x.go":            {module + "/broker/agent/swtpm", module + "/store", module + "/deploy/hostdeps"},
		"broker/agent/collect/tpm2/x.go": {module + "/broker/client", module + "/verifier/eventlog", "os"},
	} {
		source := "package x\n\nimport (\n"
		for _, i := range imports {
			source += "\t_ " + strconv.Quote(i) + "\n"
		}
		found, err := violations(file, []byte(source+")\n"))
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range found {
			t.Error(v)
		}
	}
}

func TestArchitectureHasNothingElseAtTheTop(t *testing.T) {
	root := repository(t)
	list, err := exec.Command("git", "-C", root, "ls-files").Output()
	if err != nil {
		t.Skip("this is no git checkout, so what belongs to the project is unknown: ", err)
	}
	for name := range strings.FieldsSeq(string(list)) {
		if top, _, _ := strings.Cut(name, "/"); !slices.Contains(topLevel(), top) {
			t.Errorf("%s stands at the top and is not in the design", top)
		}
	}
}
