package manual_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/cmd/internal/manual"
	"github.com/zonebroker/zonebroker/cmd/internal/manual/manualtest"
)

func about() manual.About {
	return manual.About{
		Version:     func() string { return "1.2.3" },
		Environment: [][2]string{{"PROGRAM_DIR", "Where it is."}},
		Exit:        [][2]string{{"0", "Done."}},
	}
}

// program is a tree whose texts hold what roff reads as its own.
func program() *cobra.Command {
	do := func(*cobra.Command, []string) error { return nil }
	root := &cobra.Command{
		Use: "program", Short: "Show what a page must hold", Example: "  program odd --size 3", RunE: do,
		Long: "A paragraph\n.so /etc/passwd\n'br\nback\\slash and `ticks`.\n\n  kept   as\n  it is…",
	}
	root.CompletionOptions.DisableDefaultCmd = true
	odd := &cobra.Command{Use: "odd NAME", Short: "Be odd", Long: "Odd is odd.", Example: "  program odd 'a b'", RunE: do}
	odd.Flags().Int("size", 7, "how `MANY` there are")
	odd.Flags().String("home", "/home/somebody", "where it lies")
	odd.Flags().String("secret", "", "not for pages")
	_ = odd.Flags().MarkHidden("secret")
	hidden := &cobra.Command{Use: "hidden", Hidden: true, RunE: do}
	root.AddCommand(odd, hidden, manual.NewCommand("program", about()))
	return root
}

func TestPagesAreWellFormed(t *testing.T) {
	manualtest.Help(t, program())
	manualtest.Pages(t, program(), about())
}

func TestTextsCannotBecomeRequests(t *testing.T) {
	page := manual.Pages(program(), about())[0].Text
	for _, want := range []string{"\n\\&.so /etc/passwd\n", "\n\\&'br\n", `back\eslash`, `\(gaticks\(ga`, "kept   as\nit is\\[u2026]\n"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
}

func TestPagesSayWhatTheHelpSays(t *testing.T) {
	pages := map[string]string{}
	for _, p := range manual.Pages(program(), about()) {
		pages[p.File] = strings.ReplaceAll(p.Text, `\-`, "-")
	}
	if len(pages) != 3 {
		t.Errorf("%d pages, want program, odd and man", len(pages))
	}
	odd := pages["program-odd.1"]
	for _, want := range []string{"--size MANY", "how MANY there are (default 7)", "Done."} {
		if !strings.Contains(odd, want) {
			t.Errorf("the page lacks %q:\n%s", want, odd)
		}
	}
	for _, bad := range []string{"secret", "somebody", "PROGRAM_DIR"} {
		if strings.Contains(odd, bad) {
			t.Errorf("the page says %q:\n%s", bad, odd)
		}
	}
	if root := pages["program.1"]; !strings.Contains(root, "PROGRAM_DIR") || !strings.Contains(root, "program-odd(1)") || strings.Contains(root, "hidden") {
		t.Errorf("page of the program:\n%s", root)
	}
}

func TestManWritesIntoAFolderAndFollowsNoLink(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man1")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(elsewhere, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, filepath.Join(dir, "program.1")); err != nil {
		t.Fatal(err)
	}
	root := program()
	root.SetArgs([]string{"man", dir})
	root.SetErr(&strings.Builder{})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	if kept, _ := os.ReadFile(elsewhere); string(kept) != "precious" {
		t.Errorf("the write followed the link: %q", kept)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 3 {
		t.Errorf("%d files", len(entries))
	}
}
