package test

import (
	"context"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// floodLimits lift what bounds one node, so that few hosts can make a fleet's
// load, and let them all wait for their turn. What bounds strangers stays at its default.
const floodLimits = `limits:
  nodes: {per_second: 1000000, burst: 1000000}
  node: {per_second: 1000000, burst: 1000000}
  node_attestations: 1000000000
  queue: 100000
`

// BenchmarkFlood renews 32 hosts over kept connections, as fast as they can,
// while strangers from sixteen other addresses do what they can, under the
// default limits. Broker, database, fleet and strangers share the cores: what is
// lost is what the broker spent on strangers and what they used up themselves,
// and both are reported.
func BenchmarkFlood(b *testing.B) {
	f := newFlooded(b)
	for _, kind := range floodKinds() {
		b.Run(kind, func(b *testing.B) {
			for range b.N {
				r := f.measure(b, kind, 3*time.Second, 4*time.Second)
				b.ReportMetric(r.before.rate, "before-att/s")
				b.ReportMetric(r.during.rate, "during-att/s")
				b.ReportMetric(r.after.rate, "after-att/s")
				b.ReportMetric(100-200*r.during.rate/(r.before.rate+r.after.rate), "lost-%")
				paced := f.underFlood(b, kind, 3*time.Second, 4*time.Second, r.before.rate/2)
				b.ReportMetric(100-200*paced.rate/r.before.rate, "lost-at-half-%")
				b.ReportMetric(1000*r.forStrangers, "broker-cpu-ms/s")
				b.ReportMetric(1000*r.strangers.Seconds()/r.during.lasted.Seconds(), "strangers-cpu-ms/s")
				b.ReportMetric(float64(r.tally.Begun)/r.during.lasted.Seconds(), "begun/s")
				b.ReportMetric(float64(r.during.failed), "renewals-failed")
				b.ReportMetric(memoryOf(b, f.p.cmd.Process.Pid, "VmHWM"), "broker-peak-MB")
				b.Logf("%s: %v", kind, r.tally.Answers)
			}
		})
	}
}

// TestFlood asserts what holds on any machine: no renewal fails because of
// strangers, none of them gets anything, whoever is turned away hears when to
// come back, and the broker's memory has a bound.
func TestFlood(t *testing.T) {
	f := newFlooded(t)
	for _, kind := range floodKinds() {
		t.Run(kind, func(t *testing.T) {
			r := f.measure(t, kind, 100*time.Millisecond, 700*time.Millisecond)
			if r.during.failed > 0 {
				t.Errorf("%d renewals failed: %v", r.during.failed, r.during.err)
			}
			if r.during.done == 0 || r.tally.Begun == 0 {
				t.Errorf("%d renewals, %d attempts of strangers", r.during.done, r.tally.Begun)
			}
			for answer, n := range r.tally.Answers {
				if answer == "200" {
					t.Errorf("strangers were given %d answers", n)
				}
				if strings.HasSuffix(answer, " without Retry-After") {
					t.Errorf("%d× %s", n, answer)
				}
			}
			if mb := memoryOf(t, f.p.cmd.Process.Pid, "VmHWM"); mb > 256 {
				t.Errorf("the broker held %.0f MB", mb)
			}
			t.Logf("%.0f → %.0f renewals/s; strangers began %d: %v", r.before.rate, r.during.rate, r.tally.Begun, r.tally.Answers)
		})
	}
}

// flooded is a broker with the default limits of strangers, and a fleet.
type flooded struct {
	p     *replica
	fleet *labFleet
}

func newFlooded(t testing.TB) *flooded {
	t.Helper()
	c := newCluster(t, loadZone)
	c.append(t, "zonebroker.yaml", floodLimits)
	f := &flooded{p: c.start(t)}
	f.fleet = newLabFleet(t, f.p, 32)
	t.Cleanup(f.fleet.close)
	f.renew(t, time.Second, 0)
	return f
}

// renewed is what a fleet got done.
type renewed struct {
	done, failed int
	err          error // of one that failed
	rate         float64
	lasted       time.Duration
	broker       time.Duration // CPU
}

// renew has every host renew again and again, as fast as it can or, with a pace
// above 0, so that all together come to so many a second.
func (f *flooded) renew(t testing.TB, d time.Duration, pace float64) renewed {
	t.Helper()
	var done, failed atomic.Int64
	var one atomic.Pointer[error]
	cpu, _, _ := cpuOf(f.p.cmd.Process.Pid)
	start := time.Now()
	inParallel(t, len(f.fleet.hosts), len(f.fleet.hosts), func(i int) error {
		for n := i; time.Since(start) < d; n += len(f.fleet.hosts) {
			if pace > 0 {
				time.Sleep(time.Until(start.Add(time.Duration(float64(n) / pace * float64(time.Second)))))
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			err := f.fleet.hosts[i].renew(ctx, f.fleet.clients[i])
			cancel()
			if err != nil {
				failed.Add(1)
				one.Store(&err)
				continue
			}
			done.Add(1)
		}
		return nil
	})
	r := renewed{done: int(done.Load()), failed: int(failed.Load()), lasted: time.Since(start)}
	if err := one.Load(); err != nil {
		r.err = *err
	}
	after, _, _ := cpuOf(f.p.cmd.Process.Pid)
	r.rate, r.broker = float64(r.done)/r.lasted.Seconds(), after-cpu
	return r
}

// floodResult compares a fleet under a flood with itself before and after: on a
// machine that does other things too, one of the two alone would mislead.
type floodResult struct {
	before, during, after renewed
	tally                 floodTally
	strangers             time.Duration // CPU of the flooding process
	forStrangers          float64       // CPU seconds a second that the broker spent beyond what its renewals cost before
}

func (f *flooded) measure(t testing.TB, kind string, burst, d time.Duration) floodResult {
	t.Helper()
	r := floodResult{before: f.renew(t, d, 0)}
	end := startFlood(t, f.p, kind)
	time.Sleep(burst) // the first burst of strangers is through
	r.during = f.renew(t, d, 0)
	r.tally, r.strangers = end()
	r.after = f.renew(t, d, 0)
	each := (r.before.broker + r.after.broker).Seconds() / float64(max(r.before.done+r.after.done, 1))
	r.forStrangers = (r.during.broker.Seconds() - each*float64(r.during.done)) / r.during.lasted.Seconds()
	return r
}

// underFlood is a fleet at a pace that its broker has room for.
func (f *flooded) underFlood(t testing.TB, kind string, burst, d time.Duration, pace float64) renewed {
	t.Helper()
	end := startFlood(t, f.p, kind)
	time.Sleep(burst)
	r := f.renew(t, d, pace)
	end()
	return r
}

// startFlood runs TestFlooder in a process of its own, and returns once it began.
// It ends with the returned function.
func startFlood(t testing.TB, p *replica, kind string) (end func() (floodTally, time.Duration)) {
	t.Helper()
	c, _ := startChild(t, "TestFlooder", floodVariable, kind+" "+strings.TrimPrefix(p.url, "https://"))
	return func() (floodTally, time.Duration) {
		t.Helper()
		cpu, _, _ := cpuOf(c.cmd.Process.Pid)
		c.stdin.Close()
		var tally floodTally
		line, err := c.lines.ReadBytes('\n')
		must(t, err)
		must(t, json.Unmarshal(line, &tally))
		must(t, c.cmd.Wait())
		return tally, cpu
	}
}
