package test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/client"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// BenchmarkOverload drives a fleet open-loop: attestations begin at a fixed rate
// whether or not earlier ones were answered, and each is measured from when it
// was to begin, so that a stall counts against all that it delays. Three of four
// are renewals over kept connections, one is an enrolment. First half of the
// capacity that a closed loop found, then twice; refused hosts do not wait as
// they were asked to, but take the next turn.
func BenchmarkOverload(b *testing.B) {
	for range b.N {
		o := newOverload(b, 4096)
		capacity := o.capacity(b, 64, 2*time.Second)
		half := o.run(b, capacity/2, 5*time.Second)
		double := o.run(b, 2*capacity, 8*time.Second)
		b.ReportMetric(capacity, "capacity-att/s")
		for name, l := range map[string]*load{"half": half, "double": double} {
			b.ReportMetric(float64(l.accepted())/l.lasted.Seconds(), name+"-att/s")
			b.ReportMetric(l.times().at(0.5), name+"-p50-ms")
			b.ReportMetric(l.times().at(0.99), name+"-p99-ms")
		}
		b.ReportMetric(double.times().at(0.99)/half.times().at(0.99), "p99-ratio")
		b.ReportMetric(100*double.renewals.share(), "renewals-accepted-%")
		b.ReportMetric(100*double.enrolments.share(), "enrolments-accepted-%")
		b.ReportMetric(float64(double.renewals.shed+double.enrolments.shed), "shed")
		b.ReportMetric(float64(double.renewals.bare+double.enrolments.bare), "shed-without-retry-after")
		b.ReportMetric(float64(double.renewals.wasted+double.enrolments.wasted), "shed-after-the-challenge")
		b.ReportMetric(float64(double.renewals.silent+double.enrolments.silent), "unanswered")
		b.ReportMetric(float64(double.unsent), "unsent")
		b.ReportMetric(float64(o.accepted()-o.recorded(b)), "unrecorded")
		b.ReportMetric(memoryOf(b, o.p.cmd.Process.Pid, "VmHWM"), "broker-peak-MB")
		for text, n := range double.other {
			b.Logf("%d× %s", n, text)
		}
		o.close()
	}
}

// TestOverload asserts what holds on any machine, however slow: who is turned
// away hears when to come back, renewals go before enrolments, memory has a
// bound, and every answer has its record.
func TestOverload(t *testing.T) {
	o := newOverload(t, 512)
	capacity := o.capacity(t, 32, time.Second)
	l := o.run(t, 2*capacity, 4*time.Second)
	for text, n := range l.other {
		t.Errorf("%d× neither accepted nor shed: %s", n, text)
	}
	if bare := l.renewals.bare + l.enrolments.bare; bare > 0 {
		t.Errorf("%d refusals of an overloaded broker do not say when to come back", bare)
	}
	if l.renewals.accepted == 0 {
		t.Error("at twice the capacity nothing is accepted")
	}
	if l.renewals.share() < l.enrolments.share() {
		t.Errorf("%.0f %% of the renewals and %.0f %% of the enrolments are accepted: renewals go first",
			100*l.renewals.share(), 100*l.enrolments.share())
	}
	// What was recorded may be more than what was answered in time, never less.
	accepted, recorded := o.accepted(), o.recorded(t)
	if silent := l.renewals.silent + l.enrolments.silent; recorded < accepted || recorded > accepted+silent {
		t.Errorf("%d attestations were accepted, %d unanswered, and %d are recorded", accepted, silent, recorded)
	}
	mb := memoryOf(t, o.p.cmd.Process.Pid, "VmHWM") // 600 connections at 75 kB, and what a broker takes anyway
	if mb > 256 {
		t.Errorf("the broker held %.0f MB", mb)
	}
	var v struct {
		OK bool `json:"ok"`
	}
	o.p.ctl(t, &v, "history", "verify")
	if !v.OK {
		t.Error("the history does not verify")
	}
	t.Logf("capacity %.0f/s; at twice of it %d accepted, %d shed, %d unanswered, %d not sent for want of hosts, p99 %.0f ms, %.0f MB",
		capacity, l.accepted(), l.renewals.shed+l.enrolments.shed, l.renewals.silent+l.enrolments.silent, l.unsent, l.times().at(0.99), mb)
	o.close()
}

// overload is a broker without limits of rate, a fleet with kept connections,
// and hosts that are admitted and wait to enrol.
type overload struct {
	p        *replica
	fleet    *labFleet
	idle     chan int // of fleet; each host asks one thing at a time
	new      chan *labHost
	enrolled []*client.Client
	answered atomic.Int64 // attestations that the broker said to have accepted
}

func newOverload(t testing.TB, hosts int) *overload {
	t.Helper()
	o := &overload{p: startLoad(t, loadLimits)}
	o.fleet = newLabFleet(t, o.p, hosts)
	o.answered.Add(int64(hosts))
	o.idle = make(chan int, hosts)
	inParallel(t, 32, hosts, func(i int) error {
		err := patiently(t.Context(), func(ctx context.Context) error { return o.fleet.hosts[i].renew(ctx, o.fleet.clients[i]) })
		o.answered.Add(1)
		o.idle <- i
		return err
	})
	for range 64 {
		o.enrolled = append(o.enrolled, newLabHost(t).connect(o.p))
	}
	return o
}

func (o *overload) close() {
	o.fleet.close()
	for _, c := range o.enrolled {
		c.Close()
	}
	o.p.kill()
}

// capacity is the best rate in three spans, of so many callers, each asking again
// at once: three renew and one enrols, as in run. On a machine that does other
// things too a single span may find a fraction of it, and twice of that would be
// no overload.
func (o *overload) capacity(t testing.TB, callers int, span time.Duration) (best float64) {
	t.Helper()
	for range 3 {
		o.prepareEnrolments(t, int(span.Seconds()*1000))
		var done atomic.Int64
		until := time.Now().Add(span)
		inParallel(t, callers, callers, func(i int) error {
			for n := i; time.Now().Before(until); n++ {
				switch err := o.once(t.Context(), i, n%4 == 3); reason.Of(err) {
				case "":
					done.Add(1)
				case reason.RequestOverloaded, reason.Internal: // enough others ask; or the connection was idle for too long
					time.Sleep(5 * time.Millisecond)
				default:
					return err
				}
			}
			return nil
		})
		o.answered.Add(done.Load())
		best = max(best, float64(done.Load())/span.Seconds())
	}
	return best
}

// once renews a host, or enrols one as long as some wait.
func (o *overload) once(ctx context.Context, host int, enrol bool) error {
	if enrol {
		select {
		case h := <-o.new:
			return h.enrol(ctx, o.enrolled[host%len(o.enrolled)])
		default:
		}
	}
	return o.fleet.hosts[host].renew(ctx, o.fleet.clients[host])
}

// accepted is how many attestations were answered with an SVID so far.
func (o *overload) accepted() int { return int(o.answered.Load()) }

// recorded is how many acceptances stand in the history.
func (o *overload) recorded(t testing.TB) (n int) {
	t.Helper()
	const count = `SELECT count(*) FROM attestation WHERE type = 'attestation' AND verdict = 'allow'`
	must(t, o.p.cluster.super.QueryRow(context.Background(), count).Scan(&n))
	return n
}

// outcomes of one kind of attestation.
type outcomes struct {
	offered, accepted int
	shed              int // 429 or 503
	bare              int // of them without Retry-After
	wasted            int // of them after the challenge was answered
	silent            int // no answer in time
	took              latencies
}

func (o outcomes) share() float64 { return float64(o.accepted) / float64(max(o.offered, 1)) }

// load is the result of one run.
type load struct {
	mu                   sync.Mutex
	renewals, enrolments outcomes       // by mu
	other                map[string]int // by mu; refusals that overload does not explain
	unsent               int            // no host was idle
	lasted               time.Duration
}

func (l *load) accepted() int { return l.renewals.accepted + l.enrolments.accepted }

// times are the latencies of everything accepted.
func (l *load) times() latencies {
	all := slices.Concat(l.renewals.took, l.enrolments.took)
	slices.Sort(all)
	return all
}

// add counts an attestation that was to begin at a time.
func (l *load) add(to *outcomes, began time.Time, challenged bool, err error) {
	took := time.Since(began)
	l.mu.Lock()
	defer l.mu.Unlock()
	to.offered++
	if err == nil {
		to.accepted++
		to.took = append(to.took, took)
		return
	}
	r, refused := errors.AsType[*client.RefusedError](err)
	switch {
	case refused && (r.Status == http.StatusTooManyRequests || r.Status == http.StatusServiceUnavailable):
		to.shed++
		if r.RetryAfter == 0 {
			to.bare++
		}
		if challenged {
			to.wasted++
		}
	case !refused && reason.Of(err) == reason.Internal:
		to.silent++
	default:
		l.other[fmt.Sprintf("%v", err)]++
	}
}

// run offers attestations at a rate, and returns when all are answered.
func (o *overload) run(t testing.TB, rate float64, d time.Duration) *load {
	t.Helper()
	o.prepareEnrolments(t, int(rate*d.Seconds()/4)+1)
	l := &load{other: map[string]int{}, lasted: d}
	ctx, cancel := context.WithTimeout(t.Context(), d+30*time.Second)
	defer cancel()
	start := time.Now()
	var wg sync.WaitGroup
	for i := 0; ; i++ {
		at := start.Add(time.Duration(float64(i) / rate * float64(time.Second)))
		if at.Sub(start) >= d {
			break
		}
		time.Sleep(time.Until(at))
		if i%4 == 3 {
			h := <-o.new // there are enough for all
			wg.Go(func() { o.enrol(ctx, l, h, o.enrolled[i/4%len(o.enrolled)], at) })
			continue
		}
		select {
		case n := <-o.idle:
			wg.Go(func() { o.renew(ctx, l, n, at) })
		default:
			l.unsent++
		}
	}
	wg.Wait()
	return l
}

// prepareEnrolments admits hosts until so many wait.
func (o *overload) prepareEnrolments(t testing.TB, n int) {
	t.Helper()
	hosts := make([]*labHost, n)
	inParallel(t, 4, n, func(i int) error { hosts[i] = newLabHost(t); return nil })
	o.p.admitLab(t, hosts)
	o.new = make(chan *labHost, n)
	for _, h := range hosts {
		o.new <- h
	}
}

// patience is how long an agent waits for an answer here.
const patience = 10 * time.Second

func (o *overload) renew(ctx context.Context, l *load, n int, at time.Time) {
	defer func() { o.idle <- n }()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	h := o.fleet.hosts[n]
	h.challenged = false
	err := h.renew(ctx, o.fleet.clients[n])
	if err == nil {
		o.answered.Add(1)
	}
	l.add(&l.renewals, at, h.challenged, err)
}

func (o *overload) enrol(ctx context.Context, l *load, h *labHost, c *client.Client, at time.Time) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := h.enrol(ctx, c)
	if err == nil {
		o.answered.Add(1)
	}
	l.add(&l.enrolments, at, h.challenged, err)
}
