package store_test

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/store/storetest"
)

// statement is a constant of the store's sources that is SQL.
type statement struct {
	where string // file and function
	sql   string
}

// sources reads the statements of a package, and the functions that put text
// together at run time with one.
type sources struct {
	fset       *token.FileSet
	consts     map[string]ast.Expr
	statements []statement
	dynamic    map[string]bool // "file function"
}

var verb = regexp.MustCompile(`\A\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM|WITH|COPY|CREATE|ALTER|DROP|SET|RESET|GRANT|REVOKE|LOCK|TRUNCATE|LISTEN|NOTIFY|DO|BEGIN|COMMIT|ROLLBACK|VACUUM|ANALYZE|DECLARE|FETCH)\s`)

func readSources(t *testing.T) *sources {
	t.Helper()
	s := &sources{fset: token.NewFileSet(), consts: map[string]ast.Expr{}, dynamic: map[string]bool{}}
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]*ast.File)
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		if files[name], err = parser.ParseFile(s.fset, name, nil, 0); err != nil {
			t.Fatal(err)
		}
		s.learn(files[name])
	}
	for name, f := range files {
		for _, d := range f.Decls {
			where := name
			if fn, ok := d.(*ast.FuncDecl); ok {
				where += " " + fn.Name.Name
			}
			s.walk(d, where)
		}
	}
	return s
}

// learn notes the constants of the package by name.
func (s *sources) learn(f *ast.File) {
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, spec := range g.Specs {
			v := spec.(*ast.ValueSpec)
			for i, name := range v.Names {
				if i < len(v.Values) {
					s.consts[name.Name] = v.Values[i]
				}
			}
		}
	}
}

// walk takes each expression that is text as a whole, so that no part of a
// statement counts for one.
func (s *sources) walk(n ast.Node, where string) {
	ast.Inspect(n, func(n ast.Node) bool {
		e, ok := n.(ast.Expr)
		if !ok {
			return true
		}
		if text, ok := s.text(e); ok {
			if verb.MatchString(text) {
				s.statements = append(s.statements, statement{where, text})
			}
			return false
		}
		if b, ok := e.(*ast.BinaryExpr); ok && b.Op == token.ADD && s.startsSQL(b) {
			s.dynamic[where] = true
		}
		if c, ok := e.(*ast.CallExpr); ok {
			for _, a := range c.Args {
				if text, ok := s.text(a); ok && verb.MatchString(text) && strings.Contains(text, "%") && isFormat(c) {
					s.dynamic[where] = true
				}
			}
		}
		return true
	})
}

func isFormat(c *ast.CallExpr) bool {
	sel, ok := c.Fun.(*ast.SelectorExpr)
	return ok && strings.HasSuffix(sel.Sel.Name, "f")
}

func (s *sources) startsSQL(b *ast.BinaryExpr) bool {
	for e := ast.Expr(b); ; {
		if text, ok := s.text(e); ok {
			return verb.MatchString(text + " ")
		}
		inner, ok := e.(*ast.BinaryExpr)
		if !ok {
			return false
		}
		e = inner.X
	}
}

// text is the value of a constant expression of strings.
func (s *sources) text(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind != token.STRING {
			return "", false
		}
		out, err := strconv.Unquote(e.Value)
		return out, err == nil
	case *ast.Ident:
		if e.Obj != nil && e.Obj.Kind != ast.Con {
			return "", false
		}
		if v := constOf(e); v != nil {
			return s.text(v)
		}
		if v := s.consts[e.Name]; v != nil {
			return s.text(v)
		}
	case *ast.ParenExpr:
		return s.text(e.X)
	case *ast.BinaryExpr:
		x, ok := s.text(e.X)
		y, too := s.text(e.Y)
		return x + y, ok && too && e.Op == token.ADD
	}
	return "", false
}

// constOf is the value of a constant that is declared in the same file.
func constOf(e *ast.Ident) ast.Expr {
	if e.Obj == nil {
		return nil
	}
	v, ok := e.Obj.Decl.(*ast.ValueSpec)
	if !ok {
		return nil
	}
	for i, name := range v.Names {
		if name.Name == e.Name && i < len(v.Values) {
			return v.Values[i]
		}
	}
	return nil
}

// forbidden is what keeps the history from other engines and from poolers
// (design, section 4), with the functions that may.
var forbidden = []struct {
	name string
	text *regexp.Regexp
	may  []string
}{
	{"LISTEN and NOTIFY", regexp.MustCompile(`(?i)\b(LISTEN|NOTIFY|UNLISTEN|pg_notify)\b`), nil},
	{"advisory locks", regexp.MustCompile(`(?i)pg_(try_)?advisory`), []string{
		"migrate.go bootstrap", "partition.go addPartition", "leaf.go addLeaves",
		"owner.go Alone",        // of the partition manager: from the list of a drop to the drop
		"pending.go AddPending", // to the end of its transaction; it bounds a list that grants nothing
	}},
	{"temporary tables", regexp.MustCompile(`(?i)\bTEMP(ORARY)?\b`), nil},
	{"session settings", regexp.MustCompile(`(\A|;)\s*(SET (LOCAL )?(ROLE|\w+ *=)|RESET )`), []string{
		"store.go becomeWriter", "migrate.go becomeOwner", "question.go becomeReader", "writer.go endStalled", "verify.go run", "leaf.go addLeaves",
	}},
	{"SERIAL", regexp.MustCompile(`\b(BIG|SMALL)?SERIAL\b`), nil},
	// Not where attestations wait for it; auditors and the owner's sweep may.
	{"DISTINCT ON", regexp.MustCompile(`(?i)DISTINCT\s+ON`), []string{"questionspan.go membersQuery", "retention.go", "retention.go run"}},
	{"exclusion constraints and GiST", regexp.MustCompile(`(?i)\bEXCLUDE\b|\bgist\b`), nil},
	{"OFFSET", regexp.MustCompile(`(?i)\bOFFSET\b`), nil},
}

var (
	historyTable = regexp.MustCompile(`(?i)\bFROM\s+(attestation|evidence_part|svid|drift_event|evidence_content|measurement_interval)\b`)
	hasBound     = regexp.MustCompile(`(?i)\bLIMIT\b|recorded_at\s*(>=|<|=|BETWEEN)|log_idx\s*(>=|<|=)|\bcount\(|\bmin\(|\bmax\(|EXISTS`)
)

// unbounded are the functions that add the bound where they send the statement,
// or that read all there is: of one node, or of what is declared gone.
var unbounded = []string{
	"questionissued.go run", "questionissued.go underSpans", "questionissued.go ofRefused", "questionrate.go detectionsQuery",
	"verifymissing.go readMissing", "erase.go", "erase.go ownRows", "erase.go ownDigests", "erase.go ownContents", "erase.go erase",
}

func TestSQLIsPortable(t *testing.T) {
	s := readSources(t)
	if len(s.statements) < 100 {
		t.Fatalf("only %d statements were found", len(s.statements))
	}
	for _, st := range s.statements {
		for _, f := range forbidden {
			if f.text.MatchString(st.sql) && !slices.Contains(f.may, st.where) {
				t.Errorf("%s uses %s: %s", st.where, f.name, st.sql)
			}
		}
		// A statement that ends in its table is continued where it is used.
		if historyTable.MatchString(st.sql) && !hasBound.MatchString(st.sql) && strings.TrimSpace(st.sql) == st.sql && !slices.Contains(unbounded, st.where) {
			t.Errorf("%s reads the history without a bound: %s", st.where, st.sql)
		}
	}
}

var (
	preparable  = regexp.MustCompile(`\A\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\s`)
	runtimePart = regexp.MustCompile(`%(\[\d+\])?[sdqL]`)
)

// numbered gives the arguments of a list's conditions their numbers, as the
// filter does.
func numbered(sql string) string {
	for n := 1; strings.Contains(sql, "?"); n++ {
		sql = strings.Replace(sql, "?", "$"+strconv.Itoa(n), 1)
	}
	return sql
}

// TestSQLPrepares: every statement is one of the migrated schema.
func TestSQLPrepares(t *testing.T) {
	s := readSources(t)
	db := storetest.New(t)
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, db.OwnerDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	prepared := 0
	for _, st := range s.statements {
		for sql := range strings.SplitSeq(st.sql, ";") {
			if !preparable.MatchString(sql) || runtimePart.MatchString(sql) {
				continue
			}
			_, err := conn.PgConn().Prepare(ctx, "", numbered(sql), nil)
			// The beginning of a statement that a list continues, whose whole the tests
			// of plans explain.
			if err != nil && !strings.Contains(err.Error(), "at end of input") && st.where != "questionrate.go ratesQuery" {
				t.Errorf("%s: %s: %v", st.where, sql, err)
			}
			if err == nil {
				prepared++
			}
		}
	}
	if prepared < 100 {
		t.Errorf("only %d of %d statements were prepared", prepared, len(s.statements))
	}
}

// dynamicSQL are the functions that put SQL together at run time: none of what
// they add is a caller's. A new one has to be looked at and named here.
var dynamicSQL = []string{
	"retention.go runs", "retention.go run", "retention.go keepsOf", "retention.go replaceLeaf", "retention.go dropEmptyWeeks", "retention.go drop", "retention.go changes",
	"partition.go addPartition", "leaf.go likeTable", "migrate.go connectOwner", "erase.go erase",
}

func TestSQLIsSeen(t *testing.T) {
	s := readSources(t)
	for where := range s.dynamic {
		if !slices.Contains(dynamicSQL, where) {
			t.Errorf("%s puts SQL together at run time", where)
		}
	}
	for _, where := range dynamicSQL {
		if !s.dynamic[where] {
			t.Errorf("%s does not put SQL together any more", where)
		}
	}
}
