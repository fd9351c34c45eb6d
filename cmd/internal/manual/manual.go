// Package manual writes the manual pages of a command out of its own help, so
// that the two cannot disagree. A page is roff with the macros of man(7), which
// groff and mandoc read alike.
//
// Cobra's own generator goes through Markdown: it would add a Markdown parser to
// programs that stand in the path of trust, and reads underscores, stars and
// angle brackets of our texts as markup.
package manual

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// About is what the pages of one program say besides its help.
type About struct {
	// Version stands in the footer.
	Version func() string
	// Environment lists the variables that the program reads, each with its
	// meaning; for the page of the program itself.
	Environment [][2]string
	// Exit lists the exit codes, for every page.
	Exit [][2]string
	// Files lists the places that the program uses without being told.
	Files [][2]string
}

// Page is one page of section 1.
type Page struct {
	File string // as it has to be named: zonebroker-node-list.1
	Text string // roff, ASCII
}

// Pages makes the page of root and of every command below it that help lists,
// in the order of the help.
func Pages(root *cobra.Command, about About) []Page {
	var pages []Page
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		pages = append(pages, page(cmd, about))
		for _, sub := range visible(cmd) {
			walk(sub)
		}
	}
	walk(root)
	return pages
}

// visible leaves out what cobra adds by itself: the help of help is one page too
// many.
func visible(cmd *cobra.Command) []*cobra.Command {
	var out []*cobra.Command
	for _, sub := range cmd.Commands() {
		if !sub.Hidden && sub.Name() != "help" {
			out = append(out, sub)
		}
	}
	return out
}

func nameOf(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// NewCommand makes "man DIR" for the program whose name is given.
func NewCommand(program string, about About) *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write the manual pages into a folder",
		Long: fmt.Sprintf(`Man writes one page of section 1 for each command into DIR, which it makes where
it is missing: %[1]s.1, %[1]s-version.1 and so on. Pages of the same name are
overwritten, nothing else in the folder is touched. Packagers put them under
/usr/share/man; a user without root reads them where they are:

  man -l DIR/%[1]s.1`, program),
		Example: fmt.Sprintf(`  %[1]s man ~/.local/share/man/man1`, program),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			pages := Pages(cmd.Root(), about)
			if err := write(args[0], pages); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "wrote %d pages into %s\n", len(pages), args[0])
			return nil
		},
	}
}

func write(dir string, pages []Page) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, p := range pages {
		path := filepath.Join(dir, p.File)
		// A link that somebody else put there must not lead the write elsewhere.
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.WriteFile(path, []byte(p.Text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
