// Package completion teaches shells the commands of a program, and what to offer
// where it asks for a name: the words of a usage line and the names of flags say
// which, so that a new command is complete when its usage line is.
package completion

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Patience bounds what a press of the Tab key waits for a broker.
const Patience = time.Second

// maxOffers bounds a list: a shell asks before it shows hundreds of lines.
const maxOffers = 500

// Offers looks up what could stand at a place: values, each with a tab and a
// description after it where there is one. An error offers nothing; Tab is no
// place for messages.
type Offers func(ctx context.Context, cmd *cobra.Command) ([]string, error)

// Places says what to offer.
type Places struct {
	// Words of usage lines, such as "NODE", without dots and brackets.
	Words map[string]Offers
	// Flags by name, for whichever command has them.
	Flags map[string]Offers
	// Paths name words and flags for which the shell offers files and folders.
	Paths []string
}

// Fixed offers always the same.
func Fixed(values ...string) Offers {
	return func(context.Context, *cobra.Command) ([]string, error) { return values, nil }
}

// Register sets the completions of root and of all commands below it. Those that
// a command has set itself stay.
func (p Places) Register(root *cobra.Command) {
	if root.ValidArgsFunction == nil && root.ValidArgs == nil {
		root.ValidArgsFunction = p.arguments(words(root.Use))
	}
	root.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		if do := p.place(f.Name, p.Flags); do != nil {
			// The error says that the command has set its own.
			_ = root.RegisterFlagCompletionFunc(f.Name, do)
		}
	})
	for _, cmd := range root.Commands() {
		p.Register(cmd)
	}
}

// words are the arguments of a usage line: what is written in capitals.
func words(use string) []string {
	var out []string
	fields := strings.Fields(use)
	for i, w := range fields {
		w = strings.Trim(w, "[].")
		if w != strings.ToUpper(w) || strings.HasPrefix(w, "-") || i > 0 && strings.HasPrefix(fields[i-1], "-") {
			continue
		}
		out = append(out, w)
	}
	return out
}

func (p Places) arguments(words []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		i := len(args)
		if n := len(words); i >= n && n > 0 && strings.Contains(cmd.Use, words[n-1]+"...") {
			i = n - 1
		}
		if i >= len(words) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var all []string
		for name := range strings.SplitSeq(words[i], "|") {
			do := p.place(name, p.Words)
			if do == nil {
				continue
			}
			some, directive := do(cmd, args, typed)
			if directive != cobra.ShellCompDirectiveNoFileComp {
				return some, directive
			}
			all = append(all, some...)
		}
		return without(all, args), cobra.ShellCompDirectiveNoFileComp
	}
}

func (p Places) place(name string, from map[string]Offers) cobra.CompletionFunc {
	if slices.Contains(p.Paths, name) {
		return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			// Not cobra's filter for folders: in bash it needs a package.
			return nil, cobra.ShellCompDirectiveDefault
		}
	}
	offers := from[name]
	if offers == nil {
		return nil
	}
	return func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		ctx := cmd.Context()
		if ctx == nil {
			ctx = context.Background()
		}
		ctx, cancel := context.WithTimeout(ctx, Patience)
		defer cancel()
		values, err := offers(ctx, cmd)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return fitting(values, typed), cobra.ShellCompDirectiveNoFileComp
	}
}

// fitting keeps what begins as typed, each value once. Values come from a broker
// and end in a shell: one with anything but plain characters is left out.
func fitting(values []string, typed string) []string {
	var out []string
	for _, v := range values {
		value, about, _ := strings.Cut(v, "\t")
		if value == "" || !strings.HasPrefix(value, typed) || strings.ContainsFunc(value, unsafe) || slices.Contains(out, v) {
			continue
		}
		if strings.ContainsFunc(about, func(c rune) bool { return c < ' ' || c > '~' }) {
			v = value
		}
		if out = append(out, v); len(out) == maxOffers {
			break
		}
	}
	return out
}

func unsafe(c rune) bool {
	return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("._:/@|+=-", c))
}

func without(values, given []string) []string {
	return slices.DeleteFunc(values, func(v string) bool {
		value, _, _ := strings.Cut(v, "\t")
		return slices.Contains(given, value)
	})
}

// NewCommand makes "completion SHELL" for the program whose name is given.
func NewCommand(program string) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print what teaches a shell to complete this program's command lines",
		Long: fmt.Sprintf(`Completion prints a script for bash, zsh or fish. With it Tab completes commands
and flags, and where a running broker or agent can be asked without a password,
the names that it knows now: nodes, zones, workloads, records. A broker that does
not answer within a second offers nothing.

For the running shell:

  bash   source <(%[1]s completion bash)
  zsh    source <(%[1]s completion zsh)
  fish   %[1]s completion fish | source

For every shell to come:

  bash   %[1]s completion bash > ~/.local/share/bash-completion/completions/%[1]s
  zsh    %[1]s completion zsh > "${fpath[1]}/_%[1]s"
  fish   %[1]s completion fish > ~/.config/fish/completions/%[1]s.fish`, program),
		Example: fmt.Sprintf(`  source <(%[1]s completion bash)
  %[1]s completion fish > ~/.config/fish/completions/%[1]s.fish`, program),
		ValidArgs: []string{"bash", "zsh", "fish"},
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			return script(cmd.OutOrStdout(), cmd.Root(), args[0])
		},
	}
}

func script(out io.Writer, root *cobra.Command, shell string) error {
	switch shell {
	case "zsh":
		return root.GenZshCompletion(out)
	case "fish":
		return root.GenFishCompletion(out, true)
	}
	if err := root.GenBashCompletionV2(out, true); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, bareBash, root.Name())
	return err
}

// bareBash replaces a function of cobra's script that needs the package
// bash-completion, which servers often do without: the words of the line as
// typed, where bash itself splits at = and : too.
const bareBash = `
# Without the package bash-completion.
__%[1]s_init_completion()
{
    COMPREPLY=()
    if declare -F _get_comp_words_by_ref >/dev/null; then
        _get_comp_words_by_ref "$@" cur prev words cword
        return
    fi
    local line="${COMP_LINE:0:COMP_POINT}"
    read -r -a words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    cword=$((${#words[@]} - 1))
    cur="${words[cword]}"
    prev=""
    ((cword > 0)) && prev="${words[cword - 1]}"
    return 0
}
`
