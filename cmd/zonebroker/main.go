// Command zonebroker is the attestation broker and the tool of its operators
// and auditors: it runs the broker, asks it through the admin socket, and
// checks claims and histories.
//
// Exit codes: 0 ok, 1 error, 2 usage, 3 denied, 4 broker unreachable, 5 a proof
// does not verify.
package main

import (
	"context"
	"io"
	"os"

	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is main without the process: data goes to out, everything else to notes.
func run(ctx context.Context, args []string, in io.Reader, out, notes io.Writer) int {
	root, began := newRootCmd()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(notes)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return terminal.ExitOK
	}
	// Whatever goes wrong before the command itself began is a wrong command
	// line: unknown commands, flags and arguments have no error type in cobra.
	if !*began {
		err = usageError{err.Error()}
	}
	return fail(notes, err)
}
