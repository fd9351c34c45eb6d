package policy

import (
	"regexp"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"
)

// MaxRetentionGroups bounds the groups of a retention document: each makes
// partitions of its own every week.
const MaxRetentionGroups = 8

// maxDays bounds a period: a hundred years.
const maxDays = 36500

// Periods say how many days each class of rows is kept, 0 for ever.
type Periods struct {
	Decisions int // records of attestations and of SVIDs, drift, intervals
	Evidence  int // what hosts sent, without which nothing can be judged again
	SVIDs     int // SVIDs by serial
}

// Days returns the period of a class by its name in the document.
func (p Periods) Days(class string) int {
	switch class {
	case "decisions":
		return p.Decisions
	case "evidence":
		return p.Evidence
	case "svids":
		return p.SVIDs
	}
	return 0
}

// Ended reports whether rows of a class, the newest of which is from newest, may
// go at now.
func (p Periods) Ended(class string, newest, now time.Time) bool {
	days := p.Days(class)
	return days > 0 && !newest.AddDate(0, 0, days).After(now)
}

// RetentionGroup is zones whose rows are kept alike.
type RetentionGroup struct {
	Name  string
	Zones []string
	Periods
}

// Retention is a document of kind Retention: what is kept for how long. The zero
// value keeps everything.
type Retention struct {
	Default Periods // of what stands in no group's zone
	Groups  []RetentionGroup
}

// Group returns the group of a zone, nil for the default.
func (r *Retention) Group(zone string) *RetentionGroup {
	for i := range r.Groups {
		for _, z := range r.Groups[i].Zones {
			if z == zone {
				return &r.Groups[i]
			}
		}
	}
	return nil
}

// LoadRetention reads a retention document as strictly as zone documents: what is
// unknown, doubled or missing is a problem, and one problem refuses the document.
func LoadRetention(f File) (*Retention, []Problem) {
	var problems []Problem
	w, root := parseFile(f, &problems)
	if root == nil || len(problems) > 0 {
		return nil, problems
	}
	m := w.fields(root, "retention document", "apiVersion", "kind", "default", "groups")
	w.exactly(m.need("apiVersion", "write zonebroker/v1"), "apiVersion", "zonebroker/v1")
	w.exactly(m.need("kind", "write Retention"), "kind", "Retention")
	out := &Retention{}
	if n := m.need("default", "it holds what no group's zone does"); n != nil {
		out.Default = w.periods(n, w.fields(n, "default", periodNames...))
	}
	if n := m.get("groups"); n != nil {
		w.retentionGroups(n, out)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return out, nil
}

var periodNames = []string{"decisions", "evidence", "svids"}

func (w *walker) exactly(n *yaml.Node, what, want string) {
	if n == nil {
		return
	}
	if got, ok := w.text(n, what); ok && got != want {
		w.invalid(n, "%s is %q; want %s", what, clip(got), want)
	}
}

func (w *walker) retentionGroups(n *yaml.Node, out *Retention) {
	if n.Kind != yaml.SequenceNode {
		w.invalid(n, "groups must be a list")
		return
	}
	if len(n.Content) > MaxRetentionGroups {
		w.invalid(n, "%d groups; at most %d, because each has partitions of its own", len(n.Content), MaxRetentionGroups)
		return
	}
	names, zones := map[string]bool{}, map[string]string{}
	for _, c := range n.Content {
		m := w.fields(c, "group", append([]string{"name", "zones"}, periodNames...)...)
		var g RetentionGroup
		if name, ok := w.name(m.need("name", "rows keep the number of their group by it"), "name"); ok {
			if names[name] {
				w.invalid(m.get("name"), "a second group %q", name)
			}
			g.Name, names[name] = name, true
		}
		if list := m.need("zones", "a group without zones holds nothing"); list != nil {
			g.Zones = w.groupZones(list, g.Name, zones)
		}
		g.Periods = w.periods(c, m)
		out.Groups = append(out.Groups, g)
	}
}

func (w *walker) groupZones(list *yaml.Node, group string, taken map[string]string) []string {
	if list.Kind != yaml.SequenceNode || len(list.Content) == 0 || len(list.Content) > maxItems {
		w.invalid(list, "zones must be a list of 1 to %d names", maxItems)
		return nil
	}
	var out []string
	for _, n := range list.Content {
		zone, ok := w.name(n, "zone")
		if !ok {
			continue
		}
		if other, twice := taken[zone]; twice {
			w.invalid(n, "zone %q is in group %q already", zone, other)
		}
		taken[zone] = group
		out = append(out, zone)
	}
	return out
}

// periods reads the periods of a group. What outlives its decision explains
// nothing, and no legal hold could tell any more whose it is.
func (w *walker) periods(n *yaml.Node, m fields) Periods {
	p := Periods{Decisions: w.period(m, "decisions"), Evidence: w.period(m, "evidence"), SVIDs: w.period(m, "svids")}
	for _, c := range []struct {
		name string
		days int
	}{{"evidence", p.Evidence}, {"svids", p.SVIDs}} {
		if p.Decisions > 0 && (c.days == 0 || c.days > p.Decisions) {
			w.invalid(n, "%s would be kept longer than decisions: at most %dd", c.name, p.Decisions)
		}
	}
	return p
}

var dayForm = regexp.MustCompile(`^[1-9][0-9]{0,4}d$`)

// period reads "400d", or "forever" as 0. It has to be written out: nothing is
// dropped, and nothing piles up, because a line was forgotten.
func (w *walker) period(m fields, name string) int {
	n := m.need(name, `write how many days, such as 400d, or forever`)
	text, ok := w.text(n, name)
	if !ok || text == "forever" {
		return 0
	}
	days := 0
	if dayForm.MatchString(text) {
		days, _ = strconv.Atoi(text[:len(text)-1])
	}
	if days == 0 || days > maxDays {
		w.invalid(n, "%s is %q; want 1d to %dd, or forever", name, clip(text), maxDays)
		return 0
	}
	return days
}
