package test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// childProcess is this test binary once more, running one test that a variable
// turns into something else, so that its CPU can be told from ours.
type childProcess struct {
	cmd   *exec.Cmd
	stdin io.Closer     // the child ends with its input
	lines *bufio.Reader // of its output
}

// startChild runs the test with variable=value and returns the first line that it
// says.
func startChild(t testing.TB, test, variable, value string) (c childProcess, first string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run", "^"+test+"$")
	cmd.Env = append(os.Environ(), variable+"="+value)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	c = childProcess{cmd: cmd, stdin: stdin, lines: bufio.NewReader(out)}
	first, err = c.lines.ReadString('\n')
	must(t, err)
	return c, strings.TrimSpace(first)
}
