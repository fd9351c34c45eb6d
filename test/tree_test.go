package test

import (
	"regexp"
	"strings"
	"testing"
)

// leaf is a command as its help shows it.
type leaf struct {
	path     string   // zonebroker node list
	examples []string // lines of its example, without indentation
	json     string   // the flag by which it prints JSON: -o json, --json, or ""
}

var (
	listedCommand = regexp.MustCompile(`^  ([a-z][a-z0-9-]*) +\S`)
	jsonFlag      = regexp.MustCompile(`(?m)^ +(?:-o, )?--output (?:table\|json|string +table or json)`)
	ownJSONFlag   = regexp.MustCompile(`(?m)^ +--json\b`)
)

// tree walks the commands of both programs through their help, as a user can:
// a command that is added is found, whatever file it is in.
func tree(t *testing.T) []leaf {
	t.Helper()
	r := getRig(t)
	var found []leaf
	var walk func(path []string)
	walk = func(path []string) {
		help := r.run(t, nil, path[0], append(path[1:], "--help")...)
		c := leaf{path: strings.Join(path, " ")}
		switch {
		case jsonFlag.MatchString(help):
			c.json = "-o json"
		case ownJSONFlag.MatchString(help):
			c.json = "--json" // a line an event
		}
		section := ""
		var below []string
		for line := range strings.Lines(help) {
			line = strings.TrimRight(line, "\n")
			if strings.HasSuffix(line, ":") && !strings.HasPrefix(line, " ") {
				section = line
				continue
			}
			switch section {
			case "Examples:":
				if text := strings.TrimSpace(line); text != "" {
					c.examples = append(c.examples, text)
				}
			case "Available Commands:":
				if m := listedCommand.FindStringSubmatch(line); m != nil && m[1] != "help" {
					below = append(below, m[1])
				}
			}
		}
		found = append(found, c)
		for _, name := range below {
			walk(append(path[:len(path):len(path)], name))
		}
	}
	walk([]string{"zonebroker"})
	walk([]string{"zoneagent"})
	if len(found) < 30 {
		t.Fatalf("only %d commands were found in the help", len(found))
	}
	return found
}
