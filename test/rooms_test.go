package test_test

import "strings"

// room is a folder and all below it that is no room of its own. Folders end in
// /... where everything below is meant too, as in Go's patterns.
type room struct {
	path    string
	inside  []string // folders of this module that it may import
	modules []string // third-party modules that it may import
	pure    bool     // no system, no network, no database, no clock
}

// rooms is section 3 of the design, one row a room. reason is open to all.
func rooms() []room {
	const (
		jose   = "github.com/go-jose/go-jose/v4"
		spiffe = "github.com/spiffe/go-spiffe/v2"
		gotpm  = "github.com/google/go-tpm"
		uuid   = "github.com/google/uuid"
		jcs    = "github.com/gowebpki/jcs"
		yaml   = "go.yaml.in/yaml/v3"
		prom   = "github.com/prometheus/"
		mod    = "golang.org/x/mod"
		xsync  = "golang.org/x/sync"
		xsys   = "golang.org/x/sys"
		xtime  = "golang.org/x/time"
		crypto = "golang.org/x/crypto"
	)
	verifier := "verifier/..."
	return []room{
		{path: "verifier/reason", pure: true},
		{path: "verifier/document", pure: true},
		{path: "verifier", pure: true, inside: []string{verifier}, modules: []string{gotpm, crypto, jose, "github.com/fxamacker/cbor/v2"}},

		{path: "broker/claim", pure: true, modules: []string{spiffe, jose, uuid}},
		{path: "broker/claim/claimhttp", inside: []string{"broker/claim"}, modules: []string{spiffe}},
		{path: "broker/claim/claimgrpc", inside: []string{"broker/claim"}, modules: []string{spiffe, "google.golang.org/grpc"}},
		{path: "broker/evidencefile", pure: true, inside: []string{"broker/api", verifier}},
		{path: "broker/policy", pure: true, inside: []string{verifier}, modules: []string{yaml, jcs}},
		{path: "broker/ledger", pure: true, inside: []string{verifier}, modules: []string{uuid, jcs, mod}},
		{path: "broker/issuer", inside: []string{"broker/ledger", "broker/claim"}, modules: []string{spiffe, jose, crypto}},
		{path: "broker/trust", inside: []string{"broker/trust/...", verifier}},
		{path: "broker/api", modules: []string{uuid}},
		{
			path:    "broker",
			inside:  []string{"broker/policy", "broker/issuer", "broker/ledger", "broker/claim", "broker/api", "broker/evidencefile", "broker/internal/...", verifier},
			modules: []string{uuid, mod, xsync, xtime, spiffe, prom, crypto},
		},
		{
			path: "broker/server", inside: []string{"broker", "broker/api", "broker/internal/..."},
			modules: []string{"github.com/go-chi/chi/v5", uuid, prom, spiffe, yaml, xsync, xsys, xtime},
		},
		{path: "broker/enrich", inside: []string{verifier}},
		{path: "broker/console", inside: []string{"broker", "broker/api"}, modules: []string{"github.com/go-chi/chi/v5"}},
		{path: "broker/client", inside: []string{"broker/api", "broker/claim"}, modules: []string{spiffe}},
		{
			path: "broker/agent", inside: []string{"broker/agent/...", "broker/client", "broker/api", "broker/claim", verifier},
			modules: []string{spiffe, gotpm, uuid, xsys, xsync, "github.com/fxamacker/cbor/v2"},
		},
		{
			path: "broker/agent/workloadapi", inside: []string{"broker/api", "broker/internal/...", verifier},
			modules: []string{spiffe, xsys, xsync, "google.golang.org/grpc", "google.golang.org/protobuf"},
		},

		{
			path: "store", inside: []string{"store/internal/...", "migrations", "broker/ledger", "broker/claim", verifier},
			modules: []string{"github.com/jackc/pgx/v5", "github.com/pressly/goose/v3", "github.com/klauspost/compress", uuid, mod, xsync, prom},
		},
		{path: "store/embedded"},
		{path: "store/storetest", inside: []string{"store", "store/embedded", "migrations", "broker/ledger"}, modules: []string{"github.com/jackc/pgx/v5", uuid}},
		{path: "migrations", modules: []string{"github.com/pressly/goose/v3", "github.com/jackc/pgx/v5"}},
		{path: "deploy", inside: []string{"deploy/..."}, modules: []string{xsys}},
		{
			path:    "cmd",
			inside:  []string{"cmd/internal/...", "broker", "broker/...", "store", "store/embedded", "migrations", "deploy/...", verifier},
			modules: []string{"github.com/spf13/cobra", "github.com/spf13/pflag", spiffe, uuid, yaml, mod, prom, xsync, xsys, xtime, "github.com/jackc/pgx/v5"},
		},
		{path: "test", inside: []string{"..."}, modules: []string{spiffe, gotpm, uuid}},
	}
}

// roomOf returns the innermost room of a folder.
func roomOf(folder string) (room, bool) {
	var best room
	for _, r := range rooms() {
		if (folder == r.path || strings.HasPrefix(folder, r.path+"/")) && len(r.path) > len(best.path) {
			best = r
		}
	}
	return best, best.path != ""
}

// covers says whether a folder is meant by one of the patterns.
func covers(patterns []string, folder string) bool {
	for _, p := range patterns {
		tree, isTree := strings.CutSuffix(p, "...")
		tree = strings.TrimSuffix(tree, "/")
		if folder == p || isTree && (tree == "" || folder == tree || strings.HasPrefix(folder, tree+"/")) {
			return true
		}
	}
	return false
}

// isHelper says whether a folder holds code for tests: it is named so, or it is
// in test.
func isHelper(folder string) bool {
	return folder == "test" || strings.HasPrefix(folder, "test/") ||
		strings.HasSuffix(folder, "test") && strings.Contains(folder, "/")
}

// topLevel is everything that may stand at the top of the repository.
func topLevel() []string {
	return []string{
		"cmd", "broker", "verifier", "store", "migrations", "deploy", "test", "docs", ".ci",
		"go.mod", "go.sum", "Makefile", "LICENSE", ".gitignore",
		"README.md", "ARCHITECTURE.md", "THREATS.md", "CHANGELOG.md", "CONTRIBUTING.md",
	}
}
