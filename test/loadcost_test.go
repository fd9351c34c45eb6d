package test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/client"
)

// BenchmarkStatements counts the statements that a whole attestation costs, both
// requests, in the log of a Postgres that is told to name each. Its rates say
// nothing: the log costs more than the statements. What the broker asks by the
// clock, about ten statements a second, is in the counts.
func BenchmarkStatements(b *testing.B) {
	c := newCluster(b, loadZone)
	c.append(b, "zonebroker.yaml", loadLimits+loadQueue)
	// The connection that counts is older than the setting, and keeps silent.
	_, err := c.super.Exec(b.Context(), `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET log_statement = ''all''', current_database()); END $$`)
	must(b, err)
	p := c.start(b)
	for _, callers := range []int{1, 32, 256} {
		b.Run(fmt.Sprintf("new/callers=%d", callers), func(b *testing.B) {
			hosts := make([]*labHost, b.N)
			inParallel(b, 4, len(hosts), func(i int) error { hosts[i] = newLabHost(b); return nil })
			p.admitLab(b, hosts)
			clients := make([]*client.Client, callers)
			for i := range clients {
				clients[i] = hosts[0].connect(p)
				defer clients[i].Close()
			}
			p.countStatements(b, callers, func(ctx context.Context, caller, op int) error { return hosts[op].enrol(ctx, clients[caller]) })
		})
		b.Run(fmt.Sprintf("renew/callers=%d", callers), func(b *testing.B) {
			f := newLabFleet(b, p, callers)
			defer f.close()
			p.countStatements(b, callers, func(ctx context.Context, caller, _ int) error { return f.hosts[caller].renew(ctx, f.clients[caller]) })
		})
	}
}

// statementLine is how Postgres names a statement: of the simple protocol, and of
// the extended one.
var statementLine = regexp.MustCompile(`LOG:  (?:statement|execute [^:]+): (\w+)`)

func (p *replica) countStatements(b *testing.B, callers int, do func(ctx context.Context, caller, op int) error) {
	path := filepath.Join(p.cluster.rig.dir, "pg", "postgres.log")
	must(b, os.Truncate(path, 0)) // Postgres appends, and cuts it itself when it grows
	before := p.usage(b)
	drive(b, callers, do)
	commits := p.usage(b).commits - before.commits
	f, err := os.Open(path)
	must(b, err)
	defer f.Close()
	var all, reads, writes int
	s := bufio.NewScanner(f)
	for s.Buffer(nil, 1<<20); s.Scan(); {
		m := statementLine.FindStringSubmatch(s.Text())
		if m == nil {
			continue
		}
		all++
		switch strings.ToUpper(m[1]) {
		case "SELECT":
			reads++
		case "INSERT", "UPDATE", "COPY", "WITH", "DELETE", "MERGE":
			writes++
		}
	}
	must(b, s.Err())
	b.ReportMetric(float64(all)/float64(b.N), "statements/op")
	b.ReportMetric(float64(reads)/float64(b.N), "selects/op")
	b.ReportMetric(float64(writes)/float64(b.N), "writes/op")
	b.ReportMetric(float64(commits)/float64(b.N), "commits/op")
}

// BenchmarkMemory reports the broker's memory after the start, after 10 000 nodes
// enrolled, while they renew as hosts of a zone with a max_age of five minutes do,
// each half way, and while they do as fast as they can over a connection each.
func BenchmarkMemory(b *testing.B) {
	const nodes = 10_000
	for range b.N {
		p := startLoad(b, strings.Replace(loadLimits, "  idle: 10m\n", "", 1)+loadQueue)
		pid := p.cmd.Process.Pid
		report := func(when string) {
			b.ReportMetric(memoryOf(b, pid, "VmRSS"), when+"-MB")
			b.ReportMetric(memoryOf(b, pid, "VmHWM"), when+"-peak-MB")
			b.ReportMetric(p.metric(b, "zonebroker_http_connections"), when+"-conns")
		}
		time.Sleep(3 * time.Second) // what a start leaves behind is collected
		b.ReportMetric(memoryOf(b, pid, "VmRSS"), "idle-MB")
		f := newLabFleet(b, p, nodes)
		report("enrolled")
		renew := func(i int) error { return f.hosts[i].renew(b.Context(), f.clients[i]) }
		tick := time.NewTicker(150 * time.Second / nodes)
		inParallel(b, 64, nodes/5, func(i int) error { // half a minute: three times as long as a connection is kept
			<-tick.C
			return renew(i)
		})
		tick.Stop()
		report("paced")
		inParallel(b, 64, nodes, renew)
		report("rushed")
		f.close()
		p.kill()
	}
}
