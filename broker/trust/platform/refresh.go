package platform

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zonebroker/zonebroker/verifier"
)

// Outcomes of an object that is refreshed.
const (
	RefreshFetched   = "fetched"    // came, is believed, and is kept
	RefreshUnchanged = "unchanged"  // what is held is still the newest
	RefreshPresent   = "present"    // is held, and not due
	RefreshWaiting   = "waiting"    // failed lately; its time has not come
	RefreshNoAddress = "no_address" // nobody knows where: only to be imported
	RefreshMismatch  = "mismatch"   // what came is not believed, and is not kept
	RefreshFailed    = "failed"     // nothing came
)

// Back-off of an object that failed, doubled for each failure in a row.
const (
	firstBackOff = time.Minute
	maxBackOff   = 6 * time.Hour
)

// Refreshed is what became of an object.
type Refreshed struct {
	ID
	Outcome string // a Refresh constant
	Subject string
	SHA256  string    // of its certificates, where the content is fixed
	Ends    time.Time // zero for never
	Address string
	Detail  string // of a failure
}

// Choice says what Refresh looks at.
type Choice struct {
	Kind string // one kind; "" for all
	// Held leaves out what the folder does not have already: a broker that runs by
	// itself keeps fresh what an operator chose, and begins to believe nothing.
	Held bool
	// Force asks for what is not due, too.
	Force bool
}

// target is one object to be fetched.
type target struct {
	ID
	row     *Row // nil where the table does not list it
	address string
	// trial is the state that the fetch begins with.
	trial state
	held  *object
}

// mismatchError says that what came is not what was asked for.
type mismatchError struct{ error }

// Refresh fetches what is missing or due. Objects of one server are asked for one
// after the other, servers at the same time; certificates with fingerprints come
// first, because lists and collateral are believed under them. Done, where given,
// hears of each. The error is one of writing or of the context; what went wrong
// with an object is in the list.
func (f *Folder) Refresh(ctx context.Context, from *Fetcher, choice Choice, done func(r Refreshed, n, of int)) ([]Refreshed, error) {
	if err := from.checkMirror(); err != nil {
		return nil, err
	}
	targets, err := f.targets(choice)
	if err != nil {
		return nil, err
	}
	r := &refreshing{folder: f, from: from, choice: choice, done: done, of: len(targets)}
	for _, fixed := range []bool{true, false} {
		byHost := map[string][]target{}
		for _, t := range targets {
			if fixed == (t.row != nil && len(t.row.SHA256) > 0) {
				byHost[hostOf(t.address)] = append(byHost[hostOf(t.address)], t)
			}
		}
		var wg sync.WaitGroup
		for _, list := range byHost {
			wg.Go(func() {
				for _, t := range list {
					r.one(ctx, t)
				}
			})
		}
		wg.Wait()
		// An intermediate that came before its root is of use only now.
		again := r.early
		r.early = nil
		for _, e := range again {
			got := e.got
			got.Outcome, got.Detail = r.take(ctx, e.t, e.c, e.st, nil, false)
			r.tell(e.t, got)
		}
	}
	slices.SortFunc(r.out, func(a, b Refreshed) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name)) })
	return r.out, errors.Join(r.failed, ctx.Err())
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}

// targets lists the rows, what an operator gave an address, and the wishes.
func (f *Folder) targets(choice Choice) ([]target, error) {
	var out []target
	var failed error
	seen := map[ID]bool{}
	add := func(t target) {
		if seen[t.ID] || choice.Kind != "" && choice.Kind != t.Kind {
			return
		}
		seen[t.ID] = true
		t.held = f.held[t.ID]
		var err error
		if t.trial, err = f.readState(t.ID); err != nil {
			failed = errors.Join(failed, err)
		}
		out = append(out, t)
	}
	for i := range f.rows {
		if r := &f.rows[i]; !choice.Held || f.held[r.ID] != nil {
			add(target{ID: r.ID, row: r, address: r.Address})
		}
	}
	for id, o := range f.held {
		switch {
		case o.state.Address != "":
			add(target{ID: id, address: o.state.Address})
		case id.Kind == verifier.TrustIntelTCB && checkWish(id) == nil:
			add(target{ID: id, address: tcbAddress(id.Name)})
		}
	}
	wishes, err := readWishes(f.dir)
	if err != nil {
		return nil, err
	}
	for _, id := range wishes {
		t := target{ID: id, address: tcbAddress(id.Name)}
		if id.Kind == verifier.TrustVCEK {
			c, err := parseChip(id.Name)
			if err != nil {
				return nil, err
			}
			t.address = c.address()
		}
		add(t)
	}
	slices.SortFunc(out, func(a, b target) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name)) })
	return out, failed
}

// refreshing is one run.
type refreshing struct {
	folder *Folder
	from   *Fetcher
	choice Choice
	done   func(Refreshed, int, int)
	of     int

	mu     sync.Mutex // guards what follows, the folder and calls of done
	out    []Refreshed
	early  []early
	failed error
}

// early is a fetched object that the verifier cannot use yet.
type early struct {
	t   target
	got Refreshed
	c   content
	st  state
}

func (r *refreshing) one(ctx context.Context, t target) {
	got := Refreshed{ID: t.ID, Address: t.address}
	now := r.from.now()
	switch {
	case t.held != nil && !r.due(t, now):
		got.Outcome = RefreshPresent
	case t.address == "":
		got.Outcome = RefreshNoAddress
	case !r.choice.Force && now.Before(t.trial.Next):
		got.Outcome, got.Detail = RefreshWaiting, t.trial.Failure
	default:
		c, st, err := r.fetch(ctx, t)
		if got.Outcome, got.Detail = r.take(ctx, t, c, st, err, true); got.Outcome == "" {
			r.mu.Lock()
			r.early = append(r.early, early{t, got, c, st})
			r.mu.Unlock()
			return
		}
	}
	r.tell(t, got)
}

// tell adds to the list what became of an object.
func (r *refreshing) tell(t target, got Refreshed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o := r.folder.held[t.ID]; o != nil {
		got.Subject, got.SHA256, got.Ends = o.subject, printText(o.prints), o.ends()
	} else if t.row != nil {
		got.Subject, got.Ends = t.row.Subject, t.row.NotAfter
		got.SHA256 = printText(t.row.SHA256)
	}
	r.out = append(r.out, got)
	if r.done != nil {
		r.done(got, len(r.out), r.of)
	}
}

// due says whether what is held has to be asked for again.
func (r *refreshing) due(t target, now time.Time) bool {
	k, _ := kindOf(t.Kind)
	if k.every == 0 {
		return false
	}
	return r.choice.Force || !now.Before(t.held.state.Fetched.Add(k.every))
}

// take keeps what came, or remembers that nothing did. With wait it returns "" for
// what its fingerprint makes good, and which the verifier cannot use yet.
func (r *refreshing) take(ctx context.Context, t target, c content, st state, err error, wait bool) (outcome, detail string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil && c.raw != nil {
		if err = r.folder.put(t.ID, c, st); err == nil {
			return RefreshFetched, ""
		}
		if wait && t.row != nil && len(t.row.SHA256) > 0 {
			return "", ""
		}
		err = mismatchError{err}
	}
	if err == nil {
		t.held.state = st
		r.failed = errors.Join(r.failed, r.folder.writeState(t.ID, st))
		return RefreshUnchanged, ""
	}
	outcome = RefreshFailed
	if _, ok := errors.AsType[mismatchError](err); ok {
		outcome = RefreshMismatch
	}
	if ctx.Err() != nil {
		return outcome, err.Error() // the run was ended; the server failed nobody
	}
	st = t.trial
	st.Failures++
	pause := jitter(min(firstBackOff<<min(st.Failures-1, 12), maxBackOff))
	if later, ok := errors.AsType[*laterError](err); ok {
		pause = max(pause, later.after)
	}
	st.Next, st.Failure = r.from.now().Add(pause), err.Error()
	if t.held != nil {
		t.held.state = st
	}
	r.failed = errors.Join(r.failed, r.folder.writeState(t.ID, st))
	return outcome, err.Error()
}

// certsOf returns the certificates of one kind in the folder.
func (r *refreshing) certsOf(kind string) []*x509.Certificate {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*x509.Certificate
	for id, o := range r.folder.held {
		if id.Kind == kind {
			out = append(out, o.certs...)
		}
	}
	return out
}

// after is the state of an object that was fetched now.
func (r *refreshing) after(t target, a answer) state {
	k, _ := kindOf(t.Kind)
	st := state{Fetched: r.from.now().UTC().Truncate(time.Second), ETag: short(a.header.Get("ETag")), Changed: short(a.header.Get("Last-Modified"))}
	if t.row == nil {
		st.Address = t.trial.Address
	}
	if a.unchanged {
		st.ETag, st.Changed = cmp.Or(st.ETag, t.trial.ETag), cmp.Or(st.Changed, t.trial.Changed)
	}
	if k.lifetime > 0 {
		st.Expires = st.Fetched.Add(k.lifetime)
	}
	return st
}

// short drops a validator that is longer than any honest one.
func short(validator string) string {
	if len(validator) > 256 || strings.ContainsAny(validator, "\r\n") {
		return ""
	}
	return validator
}
