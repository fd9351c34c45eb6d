package test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// bashTab presses Tab at the end of a line, as bash does: it calls the function
// that the script has registered for the command. The package bash-completion is
// kept out: servers often lack it.
const bashTab = `
source <("$1" completion bash) || exit 1
spec=$(complete -p "$1") || exit 1
[[ $spec =~ -F\ ([_a-z]+) ]] || exit 1
compopt() { :; }
COMP_LINE=$2 COMP_POINT=${#2} COMP_TYPE=9 COLUMNS=200
read -r -a COMP_WORDS <<<"$2"
[[ $2 == *' ' ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
"${BASH_REMATCH[1]}" "$1" || exit 1
printf '%s\n' "${COMPREPLY[@]}"
`

// zshTab and fishTab ask the shells where they are installed.
const fishTab = `source ("$argv[1]" completion fish | psub); complete -C "$argv[2]"`

func TestTabOffersWhatTheBrokerKnows(t *testing.T) {
	c := newCluster(t)
	p := c.start(t)
	h := newHost(t, c.rig)
	h.admit(p)
	res := h.mustAttest(p)
	waiting := newHost(t, c.rig)
	if _, err := waiting.attest(p); err == nil {
		t.Fatal("a host that nobody admitted earned a zone")
	}
	s := &scene{rig: c.rig, dir: t.TempDir(), env: []string{"PATH=" + c.rig.bin + ":" + pathOf(c.rig), "ZONEBROKER_DIR=" + p.dir}}
	for line, want := range map[string]string{
		"zonebroker no":                                        "node",
		"zonebroker node s":                                    "show",
		"zonebroker node show ":                                res.Node,
		"zonebroker node show " + res.Node[:5]:                 res.Node,
		"zonebroker node approve " + waiting.ekHashes()[0][:8]: waiting.ekHashes()[0],
		"zonebroker history list --node ":                      res.Node,
		"zonebroker history list --zone ":                      "lab",
		"zonebroker history show " + res.AttestationID[:30]:    res.AttestationID,
		"zonebroker history list --verdict d":                  "deny",
		"zonebroker node list -o j":                            "json",
		"zonebroker node list --ser":                           "--server",
		"zonebroker completion ba":                             "bash",
		"zoneagent att":                                        "attest",
		"zoneagent attest --ak r":                              "rsa",
	} {
		// A machine that asked is on the list within a second, and Tab offers nothing
		// where a busy broker does not answer in one.
		eventually(t, 20*time.Second, fmt.Sprintf("Tab after %q offers %q", line, want), func() bool {
			return slices.ContainsFunc(s.tab(t, "bash", bashTab, line), func(offer string) bool { return strings.Fields(offer)[0] == want })
		})
		if fish, err := exec.LookPath("fish"); err == nil {
			if got := s.tab(t, fish, fishTab, line); !strings.Contains(strings.Join(got, "\n"), want) {
				t.Errorf("fish: Tab after %q offers %q, want %q", line, got, want)
			}
		}
	}
	if zsh, err := exec.LookPath("zsh"); err == nil {
		// zsh completes at a prompt only; that it loads the script is what is shown.
		s.tab(t, zsh, `autoload -U compinit && compinit -u -D && source <("$1" completion zsh) && print ok`, "zonebroker ")
	}
}

// TestTabIsSilentWithoutABroker: nothing on the terminal, and no wait.
func TestTabIsSilentWithoutABroker(t *testing.T) {
	r := getRig(t)
	s := &scene{rig: r, dir: t.TempDir(), env: []string{
		"PATH=" + r.bin + ":" + pathOf(r), "ZONEBROKER_DIR=" + filepath.Join(t.TempDir(), "nowhere"), "ZONEBROKER_CREDENTIAL=",
	}}
	began := time.Now()
	if got := s.tab(t, "bash", bashTab, "zonebroker node show "); len(got) != 0 {
		t.Errorf("offers %q", got)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("Tab took %v", took)
	}
}

// tab returns what a shell offers at the end of a line.
func (s *scene) tab(t *testing.T, shell, script, line string) []string {
	t.Helper()
	program, _, _ := strings.Cut(line, " ")
	args := []string{"-c", script, shell, program, line}
	if strings.HasSuffix(shell, "bash") {
		args = append([]string{"--norc", "--noprofile"}, args...)
	}
	if strings.HasSuffix(shell, "fish") {
		args = []string{"--no-config", "-c", script, program, line}
	}
	cmd := s.command(t.Context(), "")
	cmd.Path, cmd.Args = lookPath(t, shell), append([]string{shell}, args...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil || said.Len() > 0 {
		t.Errorf("%s: Tab after %q: %v %s", shell, line, err, said.String())
	}
	return strings.FieldsFunc(string(out), func(c rune) bool { return c == '\n' })
}

func lookPath(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	must(t, err)
	return path
}
