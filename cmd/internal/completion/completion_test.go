package completion_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/cmd/internal/completion"
)

func program(p completion.Places) *cobra.Command {
	do := func(*cobra.Command, []string) error { return nil }
	root := &cobra.Command{Use: "program", SilenceErrors: true, SilenceUsage: true}
	show := &cobra.Command{Use: "show NODE", RunE: do}
	show.Flags().String("zone", "", "")
	root.AddCommand(show,
		&cobra.Command{Use: "admit HASH... -o OUT", RunE: do},
		&cobra.Command{Use: "approve NODE|HASH", RunE: do},
		&cobra.Command{Use: "lint DIR", RunE: do},
		completion.NewCommand("program"))
	p.Register(root)
	return root
}

// offered are the lines for a command line, the directive last.
func offered(t *testing.T, p completion.Places, words ...string) []string {
	t.Helper()
	root := program(p)
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&bytes.Buffer{})
	root.SetArgs(append([]string{cobra.ShellCompRequestCmd}, words...))
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
}

func TestPlacesDecideWhatIsOffered(t *testing.T) {
	const only, files = ":4", ":0"
	p := completion.Places{
		Words: map[string]completion.Offers{
			"NODE": completion.Fixed("alpha\tfresh", "beta"), "HASH": completion.Fixed("11", "12", "11"), "OUT": completion.Fixed("never"),
		},
		Flags: map[string]completion.Offers{"zone": completion.Fixed("payments", "web")},
		Paths: []string{"DIR"},
	}
	for name, c := range map[string]struct{ line, want []string }{
		"a word":                      {[]string{"show", ""}, []string{"alpha\tfresh", "beta", only}},
		"what begins as typed":        {[]string{"show", "b"}, []string{"beta", only}},
		"nothing past the last word":  {[]string{"show", "alpha", ""}, []string{only}},
		"a word that repeats":         {[]string{"admit", "11", ""}, []string{"12", only}},
		"not the value of a flag":     {[]string{"admit", ""}, []string{"11", "12", only}},
		"either of two":               {[]string{"approve", ""}, []string{"alpha\tfresh", "beta", "11", "12", only}},
		"a flag":                      {[]string{"show", "--zone", ""}, []string{"payments", "web", only}},
		"a flag with an equals sign":  {[]string{"show", "--zone=w"}, []string{"web", only}},
		"files where a path is asked": {[]string{"lint", ""}, []string{files}},
		"shells":                      {[]string{"completion", "z"}, []string{"zsh", only}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, offered(t, p, c.line...)); diff != "" {
				t.Errorf("offers (-want +got):\n%s", diff)
			}
		})
	}
}

// TestOffersCannotCarryCommands: names come from a broker, and bash evaluates the
// line that it completes.
func TestOffersCannotCarryCommands(t *testing.T) {
	p := completion.Places{Words: map[string]completion.Offers{"NODE": completion.Fixed(
		"$(reboot)", "`id`", "a;b", "a b", "a\nb", "ü", "\x1b[2J", "", "good\tforged\nline", "fine\tabout",
	)}}
	if diff := cmp.Diff([]string{"good", "fine\tabout", ":4"}, offered(t, p, "show", "")); diff != "" {
		t.Errorf("offers (-want +got):\n%s", diff)
	}
}

func TestFailureIsSilentAndSlownessIsBounded(t *testing.T) {
	for name, look := range map[string]completion.Offers{
		"an error": func(context.Context, *cobra.Command) ([]string, error) { return []string{"a"}, errors.New("no broker") },
		"a broker that hangs": func(ctx context.Context, _ *cobra.Command) ([]string, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			p := completion.Places{Words: map[string]completion.Offers{"NODE": look}}
			if diff := cmp.Diff([]string{":4"}, offered(t, p, "show", "")); diff != "" {
				t.Errorf("offers (-want +got):\n%s", diff)
			}
			if took := time.Since(began); took > completion.Patience+time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestListsAreBounded(t *testing.T) {
	p := completion.Places{Words: map[string]completion.Offers{"NODE": func(context.Context, *cobra.Command) ([]string, error) {
		var many []string
		for i := range 2000 {
			many = append(many, strings.Repeat("a", 1+i))
		}
		return many, nil
	}}}
	if n := len(offered(t, p, "show", "")); n != 501 {
		t.Errorf("%d lines", n)
	}
}

func TestUnknownShellIsRefused(t *testing.T) {
	root := program(completion.Places{})
	root.SetArgs([]string{"completion", "tcsh"})
	if err := root.Execute(); err == nil {
		t.Error("accepted")
	}
}
