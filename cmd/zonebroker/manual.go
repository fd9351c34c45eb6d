package main

import (
	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/cmd/internal/completion"
	"github.com/zonebroker/zonebroker/cmd/internal/manual"
)

func newCompletionCmd() *cobra.Command { return completion.NewCommand("zonebroker") }

func newManCmd() *cobra.Command {
	return manual.NewCommand("zonebroker", about())
}

// about is what the manual pages say besides the help.
func about() manual.About {
	return manual.About{
		Version: func() string { return readBuildInfo().Version },
		Exit: [][2]string{
			{"0", "Done."},
			{"1", "An error, or a check that found something."},
			{"2", "A wrong command line."},
			{"3", "The broker denied it."},
			{"4", "No broker answered."},
			{"5", "A proof does not verify."},
		},
		Environment: [][2]string{
			{"ZONEBROKER_DIR", "Folder of a broker, made by init: serve runs it, and the commands that ask a running broker find its admin socket there."},
			{"ZONEBROKER_CREDENTIAL", "File with an operator's or auditor's certificate, as --credential."},
			{"ZONEBROKER_PG_BIN", "Folder of the Postgres programs; no other is taken then."},
			{"ZONEBROKER_SWTPM", "The program swtpm, or its folder; no other is taken then."},
			{"ZONEBROKER_PREFIX", "Private prefix into which deps fetches programs. Whoever can write there chooses what is run."},
			{"TERM", "dumb keeps the demo from rewriting its line."},
			{"GOGC", "how much the heap grows before it is collected, in percent; without it a small heap of serve is collected less often."},
			{"CI", "1 or true lets deps and demo fetch missing programs without asking."},
		},
		Files: [][2]string{
			{"/var/cache/zonebroker/host", "Fetched programs, for root."},
			{"~/.cache/zonebroker/host", "Fetched programs, for everybody else."},
		},
	}
}
