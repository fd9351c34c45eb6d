package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
)

// An event of the demo as a program reads it, one JSON object a line; wire.md
// names them, docs/schemas/zonebroker-demo.json describes them.
type event interface{ stamp(elapsed time.Duration) }

// eventHead begins every event.
type eventHead struct {
	Type      string `json:"type"`
	ElapsedMS int64  `json:"elapsed_ms"` // since the demo began
}

func (h *eventHead) stamp(elapsed time.Duration) { h.ElapsedMS = elapsed.Milliseconds() }

// Types of events.
const (
	eventStep    = "step"
	eventNode    = "node"
	eventSVID    = "svid"
	eventDenied  = "denied"
	eventDrift   = "drift"
	eventHistory = "history"
	eventReady   = "ready"
	eventEnd     = "end"
)

// stepEvent says what has just been done, in the words that a person reads.
type stepEvent struct {
	eventHead
	Text    string   `json:"text"`
	Latency *latency `json:"latency,omitempty"` // of the step that many hosts took
}

// latency of one step of many hosts, from its begin on the host to its end.
type latency struct {
	Count int   `json:"count"`
	P50MS int64 `json:"p50_ms"`
	P99MS int64 `json:"p99_ms"` // nearest rank: of fewer than 100 the slowest
}

// nodeEvent is a host that is known to the broker now.
type nodeEvent struct {
	eventHead
	Host   string `json:"host"`
	Node   string `json:"node"`
	Zone   string `json:"zone"`
	Tier   int    `json:"tier"`
	Kernel string `json:"kernel"`
}

// svidEvent is the first SVID of a host.
type svidEvent struct {
	eventHead
	Host          string    `json:"host"`
	Node          string    `json:"node"`
	SPIFFEID      string    `json:"spiffe_id"`
	AttestationID string    `json:"attestation_id"`
	LogIndex      int64     `json:"log_index"`
	AttestedAt    time.Time `json:"attested_at"`
	FreshUntil    time.Time `json:"fresh_until"`
	ExpiresAt     time.Time `json:"expires_at"`
	TookMS        int64     `json:"took_ms"`
}

// deniedEvent is a refusal down to the first PCR that is not what the zone
// accepts, and the event of the boot log that made it so.
type deniedEvent struct {
	eventHead
	Host        string   `json:"host"`
	Node        string   `json:"node"`
	Record      string   `json:"record"` // id in the history
	Code        string   `json:"code"`
	Event       int      `json:"event"` // number in the log of this boot
	Description string   `json:"description"`
	PCR         int      `json:"pcr"`
	Expected    []string `json:"expected"` // hex
	Seen        string   `json:"seen"`     // hex
	Remedy      string   `json:"remedy"`
}

// driftEvent is one change of one node.
type driftEvent struct {
	eventHead
	Host   string `json:"host"`
	Node   string `json:"node"`
	Record string `json:"record"`
	Kind   string `json:"kind"`
	Before string `json:"before"`
	After  string `json:"after"`
}

// historyEvent is the history after it was verified as a whole.
type historyEvent struct {
	eventHead
	OK      bool   `json:"ok"`
	Records int64  `json:"records"`
	Grants  int64  `json:"grants"`
	Size    int64  `json:"size"` // of the log
	Root    string `json:"root"` // hex
}

// readyEvent says that the story is told, and where its things are.
type readyEvent struct {
	eventHead
	Dir      string      `json:"dir"`      // DIR/env is for both commands
	Server   string      `json:"server"`   // URL for agents
	Database string      `json:"database"` // for psql
	Nodes    []readyNode `json:"nodes"`
}

type readyNode struct {
	Host string `json:"host"`
	Node string `json:"node"`
	Zone string `json:"zone"` // "" where it has none any more
	Tier int    `json:"tier"`
}

// endEvent is the last one, whatever happened.
type endEvent struct {
	eventHead
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
}

// progressEvery is how often long work shows on something that is no terminal.
const progressEvery = 5 * time.Second

// narrator tells people or programs what happens. Its methods are for several
// goroutines.
type narrator struct {
	out   io.Writer
	json  bool
	live  bool // out is a terminal, where one line may change
	began time.Time

	mu       sync.Mutex // guards what is written to out, and below
	line     bool       // a live line stands at the end of the terminal
	progress time.Time  // when progress was last shown elsewhere
}

func newNarrator(out io.Writer, asJSON bool) *narrator {
	n := &narrator{out: out, json: asJSON, began: time.Now(), progress: time.Now()}
	if f, ok := out.(*os.File); ok && !asJSON && os.Getenv("TERM") != "dumb" {
		info, err := f.Stat()
		n.live = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return n
}

// step tells one step.
func (n *narrator) step(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	n.tell(&stepEvent{eventHead: eventHead{Type: eventStep}, Text: text}, text)
}

// tell gives an event to programs, or its lines to people. No lines: nothing
// that a person has to read.
func (n *narrator) tell(e event, lines ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	elapsed := time.Since(n.began)
	if n.json {
		e.stamp(elapsed)
		w := json.NewEncoder(n.out)
		w.SetEscapeHTML(false)
		_ = w.Encode(e) // who does not listen any more has ended the demo by SIGPIPE
		return
	}
	n.clear()
	for _, line := range lines {
		fmt.Fprintf(n.out, "%6.1fs  %s\n", elapsed.Seconds(), terminal.Plain(line))
	}
	n.progress = time.Now()
}

// working shows how far long work is: on a terminal in one line that changes,
// elsewhere in a line now and then.
func (n *narrator) working(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	elapsed := time.Since(n.began).Seconds()
	text := terminal.Plain(fmt.Sprintf(format, args...))
	switch {
	case n.json:
	case n.live:
		fmt.Fprintf(n.out, "\r\x1b[K%6.1fs  %s", elapsed, text)
		n.line = true
	case time.Since(n.progress) >= progressEvery:
		fmt.Fprintf(n.out, "%6.1fs    … %s\n", elapsed, text)
		n.progress = time.Now()
	}
}

// text prints what is for people alone.
func (n *narrator) text(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.json {
		return
	}
	n.clear()
	fmt.Fprint(n.out, text)
}

// clear takes the live line away; the caller holds the lock.
func (n *narrator) clear() {
	if n.line {
		fmt.Fprint(n.out, "\r\x1b[K")
		n.line = false
	}
}
