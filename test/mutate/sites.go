package main

import (
	"go/ast"
	"go/token"
	"go/types"
	"strconv"
	"strings"
)

// sites collects the mutants of one file and the text that holds them all.
type sites struct {
	file, pkg string
	fset      *token.FileSet
	source    []byte
	info      *types.Info
	first     int // number of the file's first mutant
	mutants   []*mutant
	edits     []edit
	seen      map[string]int // by key, for the ordinal

	function string
	result   *types.Tuple // of the innermost function
	needed   map[ast.Stmt]bool
	chained  map[*ast.BinaryExpr]bool
}

// walk visits the functions. A literal belongs to the function around it.
func (s *sites) walk(f *ast.File) {
	s.seen, s.needed, s.chained = map[string]int{}, map[ast.Stmt]bool{}, map[*ast.BinaryExpr]bool{}
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Body == nil {
			continue
		}
		s.function = fn.Name.Name
		if fn.Recv != nil {
			s.function = receiver(fn.Recv.List[0].Type) + "." + fn.Name.Name
		}
		sig := s.info.Defs[fn.Name].Type().(*types.Signature)
		s.body(fn.Body, sig.Results())
	}
}

func receiver(t ast.Expr) string {
	switch t := t.(type) {
	case *ast.StarExpr:
		return receiver(t.X)
	case *ast.IndexExpr:
		return receiver(t.X)
	case *ast.Ident:
		return t.Name
	}
	return "?"
}

func (s *sites) body(b *ast.BlockStmt, result *types.Tuple) {
	if result.Len() > 0 {
		s.need(b)
	}
	outer := s.result
	s.result = result
	ast.Inspect(b, func(n ast.Node) bool {
		if lit, ok := n.(*ast.FuncLit); ok {
			s.body(lit.Body, s.info.Types[lit].Type.(*types.Signature).Results())
			return false
		}
		s.node(n)
		return true
	})
	s.result = outer
}

// need marks the statements that a function with results may have to end with
// (Go spec, terminating statements): taken out, they leave text that does not
// compile.
func (s *sites) need(st ast.Stmt) {
	s.needed[st] = true
	last := func(list []ast.Stmt) {
		if len(list) > 0 {
			s.need(list[len(list)-1])
		}
	}
	switch st := st.(type) {
	case *ast.BlockStmt:
		last(st.List)
	case *ast.IfStmt:
		if st.Else != nil {
			s.need(st.Body)
			s.need(st.Else)
		}
	case *ast.LabeledStmt:
		s.need(st.Stmt)
	case *ast.SwitchStmt:
		s.need(st.Body)
		for _, c := range st.Body.List {
			last(c.(*ast.CaseClause).Body)
		}
	case *ast.TypeSwitchStmt:
		for _, c := range st.Body.List {
			last(c.(*ast.CaseClause).Body)
		}
	case *ast.SelectStmt:
		for _, c := range st.Body.List {
			last(c.(*ast.CommClause).Body)
		}
	}
}

func (s *sites) node(n ast.Node) {
	switch n := n.(type) {
	case *ast.IfStmt:
		s.condition(n.Cond)
	case *ast.ForStmt:
		if n.Cond != nil {
			s.condition(n.Cond)
		}
	case *ast.SwitchStmt:
		if n.Tag == nil {
			for _, c := range n.Body.List {
				for _, e := range c.(*ast.CaseClause).List {
					s.condition(e)
				}
			}
		}
	case *ast.BinaryExpr:
		s.binary(n)
	case *ast.BlockStmt:
		s.statements(n.List)
	case *ast.CaseClause:
		s.statements(n.Body)
	case *ast.CommClause:
		s.statements(n.Body)
	}
}

func (s *sites) condition(e ast.Expr) {
	if s.isBool(e) {
		s.wrap(e, invert, "(", ") != zbMutant(N)")
	}
}

func (s *sites) isBool(e ast.Expr) bool {
	b, ok := s.info.Types[e].Type.(*types.Basic)
	return ok && b.Info()&types.IsBoolean != 0
}

// binary: the number of a comparison is asked for only where both sides are
// equal, so that a test which never comes near the limit does not reach it.
func (s *sites) binary(e *ast.BinaryExpr) {
	x, xok := s.again(e.X)
	y, yok := s.again(e.Y)
	twice := xok && yok && s.info.Types[e].Value == nil && s.isBool(e)
	switch e.Op {
	case token.LAND, token.LOR:
		s.chain(e)
	case token.LSS, token.GTR:
		if twice {
			s.wrap(e, byOne, "(", " || ("+x+") == ("+y+") && zbMutant(N))")
		}
	case token.LEQ, token.GEQ:
		if twice {
			s.wrap(e, byOne, "(", " && !(("+x+") == ("+y+") && zbMutant(N)))")
		}
	}
}

// chain drops the operands of a && b && c one at a time; the parts of a chain
// that are chains themselves were seen with it.
func (s *sites) chain(e *ast.BinaryExpr) {
	if s.chained[e] {
		return
	}
	var operands func(x ast.Expr)
	operands = func(x ast.Expr) {
		if b, ok := ast.Unparen(x).(*ast.BinaryExpr); ok && b.Op == e.Op {
			s.chained[b] = true
			operands(b.X)
			operands(b.Y)
			return
		}
		if !s.isBool(x) {
			return
		}
		if e.Op == token.LAND {
			s.wrap(x, drop, "(", " || zbMutant(N))")
		} else {
			s.wrap(x, drop, "(", " && !zbMutant(N))")
		}
	}
	operands(e)
}

// again is the text of an expression that is written a second time, on one line.
// There is none where its lines matter: in a function, and behind a comment.
func (s *sites) again(e ast.Expr) (text string, ok bool) {
	ok = true
	ast.Inspect(e, func(n ast.Node) bool {
		if _, literal := n.(*ast.FuncLit); literal {
			ok = false
		}
		return ok
	})
	text = s.text(e)
	if strings.Contains(text, "//") && strings.Contains(text, "\n") {
		return "", false
	}
	return strings.ReplaceAll(text, "\n", " "), ok
}

func (s *sites) statements(list []ast.Stmt) {
	for _, st := range list {
		switch st := st.(type) {
		case *ast.AssignStmt:
			if st.Tok != token.DEFINE {
				s.skip(st)
			}
		case *ast.ExprStmt, *ast.IncDecStmt:
			s.skip(st)
		case *ast.ReturnStmt:
			s.returns(st)
		}
	}
}

func (s *sites) skip(st ast.Stmt) {
	if !s.needed[st] {
		s.wrap(st, skip, "if !zbMutant(N) { ", " }")
	}
}

// returns: an error that is not returned. Where the function must end here, nil
// takes the place of the error.
func (s *sites) returns(st *ast.ReturnStmt) {
	n := s.result.Len()
	if n == 0 || len(st.Results) == 0 || !isError(s.result.At(n-1).Type()) {
		return
	}
	last := st.Results[len(st.Results)-1]
	if s.info.Types[last].IsNil() {
		return
	}
	switch {
	case !s.needed[st]:
		s.wrap(st, noReturn, "if !zbMutant(N) { ", " }")
	case len(st.Results) == n:
		s.wrap(last, nilError, "zbError(N, ", ")")
	default: // one call with all the results
		call, ok := s.again(last)
		if !ok {
			return
		}
		var names []string
		for i := range n - 1 {
			names = append(names, "zb"+strconv.Itoa(i))
		}
		all := strings.Join(names, ", ")
		s.wrap(st, nilError, "if zbMutant(N) { "+all+", _ := "+call+"; return "+all+", nil }; ", "")
	}
}

func isError(t types.Type) bool {
	return types.Identical(t, types.Universe.Lookup("error").Type())
}

func (s *sites) text(n ast.Node) string {
	return string(s.source[s.offset(n.Pos()):s.offset(n.End())])
}

func (s *sites) offset(p token.Pos) int { return s.fset.Position(p).Offset }
