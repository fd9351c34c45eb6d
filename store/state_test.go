package store_test

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/store"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestInvariant12_NodeState: what a node's state turns on and off is worth as
// much as a grant, so whoever edits it earns nothing and is named.
func TestInvariant12_NodeState(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]string{
		"rebaseline":      `rebaseline = true`,
		"last":            `last = gen_random_uuid()`,
		"no_last":         `last = NULL`,
		"confirmed":       `confirmed = last`,
		"no_clock":        `has_clock = false`,
		"older_clock":     `clock = clock - 1`,
		"reset_count":     `reset_count = 4`,
		"restart_count":   `restart_count = 4`,
		"firmware":        `firmware = 3`,
		"pcrs":            `pcrs = '{"4":"bb"}'`,
		"no_event_log":    `event_log = NULL`,
		"zone":            `zone = 'vault'`,
		"tier":            `tier = 3`,
		"verdict":         `verdict = 'deny'`,
		"reason":          `reason = 'x'`,
		"policy_version":  `policy_version = 9`,
		"attested_at":     `attested_at = attested_at - interval '1 us'`,
		"fresh_until":     `fresh_until = fresh_until + interval '1 day'`,
		"expires_at":      `expires_at = now()`,
		"last_attempt_at": `last_attempt_at = NULL`,
		"last_ok_at":      `last_ok_at = NULL`,
		"repeats":         `repeats = 7`,
		"reboot_until":    `reboot_until = now() + interval '1 hour'`,
		"version":         `version = version + 1`,
		"version_huge":    `version = 9223372036854775807`,
		"mac_of_a_node":   `mac = (SELECT n.mac FROM node n WHERE n.node_id = node_state.node_id)`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, heard := newWatchedWorld(t)
			snap := w.enrol(1)
			w.db.Exec(t, `UPDATE node_state SET `+set)
			w.wantNoNode(t, snap.Node)
			wantForged(t, w, heard, "node_state "+string(snap.Node.ID))
		})
	}
	t.Run("of_another_node", func(t *testing.T) {
		t.Parallel()
		w, heard := newWatchedWorld(t)
		first, second := w.enrol(1), w.enrol(2)
		w.db.Exec(t, `UPDATE node_state s SET last = o.last, last_attempt_at = o.last_attempt_at, attested_at = o.attested_at,
			fresh_until = o.fresh_until, last_ok_at = o.last_ok_at, mac = o.mac FROM node_state o
			WHERE s.node_id = '`+string(second.Node.ID)+`' AND o.node_id = '`+string(first.Node.ID)+`'`)
		_, err := w.s.NodeByID(t.Context(), second.Node.ID)
		wantCode(t, err, reason.StoreRowForged)
		wantForged(t, w, heard, "node_state "+string(second.Node.ID))
	})
}

// wantNoNode wants every reading of the only node to refuse it.
func (w *world) wantNoNode(t *testing.T, n ledger.Node) {
	t.Helper()
	for name, read := range map[string]func() (ledger.Snapshot, error){
		"id": func() (ledger.Snapshot, error) { return w.s.NodeByID(t.Context(), n.ID) },
		"ak": func() (ledger.Snapshot, error) { return w.s.NodeByAK(t.Context(), n.AKName) },
	} {
		got, err := read()
		wantCode(t, err, reason.StoreRowForged)
		if got.Found {
			t.Errorf("by %s: a forged state was returned", name)
		}
	}
	if list, err := w.s.Nodes(t.Context(), "", 10); err != nil || len(list) != 0 {
		t.Errorf("a forged state is listed: %v, %v", list, err)
	}
}

// TestRestoredState: a state that a broker wrote once, put back with its HMAC,
// is told from the one that the log left.
func TestRestoredState(t *testing.T) {
	t.Parallel()
	const keep, restore = `CREATE TABLE old_state AS TABLE node_state`, freely + `DELETE FROM node_state; INSERT INTO node_state TABLE old_state`
	t.Run("older_last", func(t *testing.T) {
		w := newWorld(t)
		snap := w.enrol(1)
		w.db.Exec(t, keep)
		w.append(attestation(t, snap, ledger.VerdictAllow))
		w.verify("")
		w.db.Exec(t, restore)
		wantProblem(t, w, "as last accepted, the log")
		wantProblem(t, w, "it has version 1, the log 2 changes of it")
	})
	t.Run("fewer_denials", func(t *testing.T) {
		w := newWorld(t)
		snap := w.enrol(1)
		w.db.Exec(t, keep)
		w.append(attestation(t, snap, ledger.VerdictDeny))
		w.verify("")
		w.db.Exec(t, restore)
		wantProblem(t, w, "it has version 1, the log 2 changes of it")
	})
	t.Run("used_rebaseline", func(t *testing.T) {
		w := newWorld(t)
		snap := w.enrol(1)
		snap.State.Rebaseline = true
		approve := ledger.Commit{BasedOn: snap.State.Version, Node: &snap.Node, State: &snap.State}
		snap.State.Version = w.append(grantCommit(t, ledger.TypeNodeApproved, string(snap.Node.ID), approve)).Version
		w.verify("")
		// A denial uses nothing up.
		c := attestation(t, snap, ledger.VerdictDeny)
		c.State.Version = w.append(c).Version
		snap.State = *c.State
		w.verify("")
		w.db.Exec(t, keep)
		c = attestation(t, snap, ledger.VerdictAllow)
		c.State.Rebaseline = false
		w.append(c)
		w.verify("")
		w.db.Exec(t, restore)
		wantProblem(t, w, "no approval is newer than the last accepted attestation")
	})
}

// TestAnnouncedReboot: the state expects what the log announces, once.
func TestAnnouncedReboot(t *testing.T) {
	w := newWorld(t)
	snap := w.enrol(1)
	until := time.Now().UTC().Add(time.Hour).Truncate(time.Millisecond)
	announce := func(logged time.Time) {
		t.Helper()
		snap.State.RebootUntil = until
		c := grantCommit(t, ledger.TypeNodeAnnounced, string(snap.Node.ID), ledger.Commit{BasedOn: snap.State.Version, Node: &snap.Node, State: &snap.State})
		g := ledger.Grant{
			Type: ledger.TypeNodeAnnounced, ID: recordID(t), By: "uid:0", Subject: string(snap.Node.ID),
			RowHash: mustRowHash(t, snap.Node), At: time.Now().UnixMilli(), Until: logged.UnixMilli(),
		}
		var err error
		if c.Record, err = g.Record(salt()); err != nil {
			t.Fatal(err)
		}
		snap.State.Version = w.append(c).Version
	}
	announce(until)
	w.verify("")
	rebooted := func(clear bool) {
		t.Helper()
		c := attestation(t, snap, ledger.VerdictAllow)
		c.Record = changedBody(t, c.Record, func(a *ledger.Attestation) { a.Events = []string{"tpm2.rebooted"} })
		if clear {
			c.State.RebootUntil = time.Time{}
		}
		c.State.Version = w.append(c).Version
		snap.State = *c.State
	}
	rebooted(true)
	w.verify("")
	announce(until)
	rebooted(false)
	wantProblem(t, w, "it expects a reboot that the log does not announce")
	announce(until.Add(-time.Minute))
	wantProblem(t, w, "it expects a reboot that the log does not announce")
	announce(until)
	w.verify("")
}

func mustRowHash(t *testing.T, n ledger.Node) string {
	t.Helper()
	h, err := ledger.RowHash(n)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestLostAnswerOfADenial: where the host never saw its last answer, the state
// goes back to the one before, also by a denial, and the log says so.
func TestLostAnswerOfADenial(t *testing.T) {
	w := newWorld(t)
	snap := w.enrol(1)
	first := snap.State.Last
	c := attestation(t, snap, ledger.VerdictAllow)
	c.State.Version = w.append(c).Version
	snap.State = *c.State
	c = attestation(t, snap, ledger.VerdictDeny)
	c.State.Last = first
	c.Record = changedBody(t, c.Record, func(a *ledger.Attestation) { a.Prev, a.Void = first.String(), snap.State.Last.String() })
	w.append(c)
	w.verify("")
}

// TestInvariant12_UsedToken: a token that was used stays used.
func TestInvariant12_UsedToken(t *testing.T) {
	t.Parallel()
	enrol := func(t *testing.T, i int, jt ledger.JoinToken) ledger.Commit {
		n := testNode(i, 0, ledger.Admission{ID: jt.ID, Machine: jt.Machine, Groups: jt.Groups})
		n.AdmittedBy = ledger.AdmitJoinToken
		c := attestation(t, ledger.Snapshot{Node: n}, ledger.VerdictAllow)
		c.Node, c.JoinToken = &n, &jt.ID
		return c
	}
	start := func(t *testing.T) (*world, *forgeries, ledger.JoinToken) {
		w, heard := newWatchedWorld(t)
		jt := joinToken(t)
		w.append(tokenCommit(t, jt))
		w.db.Exec(t, `CREATE TABLE old_token AS TABLE join_token`)
		w.append(enrol(t, 1, jt))
		w.verify("")
		return w, heard, jt
	}
	t.Run("emptied", func(t *testing.T) {
		w, heard, jt := start(t)
		w.db.Exec(t, freely+`UPDATE join_token SET used_by = NULL`)
		if got, err := w.s.JoinTokenByHash(t.Context(), jt.SecretHash, time.Now()); got != nil || err != nil {
			t.Errorf("an emptied token was returned: %+v, %v", got, err)
		}
		_, err := w.s.Append(t.Context(), enrol(t, 2, jt))
		wantCode(t, err, reason.ChallengeSpent)
		wantForged(t, w, heard, "join_token "+jt.ID.String())
	})
	t.Run("used_by_another", func(t *testing.T) {
		w, heard, jt := start(t)
		w.db.Exec(t, freely+`UPDATE join_token SET used_by = 'x'`)
		if got, err := w.s.JoinTokenByHash(t.Context(), jt.SecretHash, time.Now()); got != nil || err != nil {
			t.Errorf("a used token was returned: %+v, %v", got, err)
		}
		wantForged(t, w, heard, "join_token "+jt.ID.String())
	})
	t.Run("restored_with_its_HMAC", func(t *testing.T) {
		w, _, jt := start(t)
		w.db.Exec(t, freely+`DELETE FROM join_token; INSERT INTO join_token TABLE old_token`)
		// The row cannot tell, so the node that it made stands in the way.
		_, err := w.s.Append(t.Context(), enrol(t, 2, jt))
		wantCode(t, err, reason.ChallengeSpent)
		wantProblem(t, w, `its row says used by ""`)
	})
	t.Run("changed_between_reading_and_use", func(t *testing.T) {
		w := newWorld(t)
		jt := joinToken(t)
		w.append(tokenCommit(t, jt))
		s := w.db.Open(t, func(c *store.Config) {
			c.Step = func(name string) {
				if name == "store.begin" {
					w.db.Exec(t, freely+`UPDATE join_token SET groups = '{vault}', mac = sha256('x')`)
				}
			}
		})
		_, err := s.Append(t.Context(), enrol(t, 1, jt))
		wantCode(t, err, reason.ChallengeSpent)
	})
	t.Run("fence", func(t *testing.T) {
		w, _, _ := start(t)
		for _, sql := range []string{`UPDATE join_token SET used_by = NULL`, `UPDATE join_token SET mac = sha256('x')`, `DELETE FROM join_token`} {
			if err := w.tryExec(w.db.OwnerDSN, sql); err == nil {
				t.Errorf("%s was carried out", sql)
			}
		}
	})
}

// TestForgedAdmissionDoesNotBlind: neither a forged row nor a genuine one moved
// to a place that the log has not reached hides the admissions after it.
func TestForgedAdmissionDoesNotBlind(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"forged": `INSERT INTO admission SELECT gen_random_uuid(), kind, 'mine', groups, ek_hashes, granted_by, revoked, created_at, 9223372036854775807, mac FROM admission`,
		"many_forged": `INSERT INTO admission SELECT gen_random_uuid(), kind, 'mine', groups, ek_hashes, granted_by, revoked, created_at, 1 + i % 3, mac
			FROM admission, generate_series(1, 50) i`,
		"moved": freely + `UPDATE admission SET change_seq = 1000000`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, heard := newWatchedWorld(t)
			w.append(admissionCommit(t, admission(t, "first", [32]byte{1})))
			w.db.Exec(t, sql)
			_, cursor, err := w.s.AdmissionsSince(t.Context(), nil, 2)
			if err != nil || cursor["main"] > 1 {
				t.Fatalf("cursor = %v, %v", cursor, err)
			}
			if len(heard.seen) == 0 {
				t.Error("OnForged did not hear of it")
			}
			second := admission(t, "second", [32]byte{2})
			w.append(admissionCommit(t, second))
			got, cursor, err := w.s.AdmissionsSince(t.Context(), cursor, 2)
			if err != nil || cursor["main"] != 2 || len(got) != 1 || got[0].ID != second.ID {
				t.Errorf("the next admission is hidden: %+v, %v, %v", got, cursor, err)
			}
			if name == "moved" {
				wantProblem(t, w, "its change_seq is 1000000, the log gave it 1")
			} else {
				wantProblem(t, w, "its HMAC does not hold")
			}
		})
	}
}

// twoEKs is an admission of a machine with twelve EKs, and the first enrolment of
// each.
func twoEKs(t *testing.T, w *world) (enrol func(i int, status ledger.Status) ledger.Commit) {
	t.Helper()
	var eks [][32]byte
	for i := range 12 {
		eks = append(eks, sha256.Sum256(fmt.Appendf(nil, "ek %d", i)))
	}
	adm := admission(t, "m", eks...)
	w.append(admissionCommit(t, adm))
	return func(i int, status ledger.Status) ledger.Commit {
		n := testNode(i, 0, adm)
		n.Status = status
		c := attestation(t, ledger.Snapshot{Node: n}, ledger.VerdictAllow)
		c.Node = &n
		return c
	}
}

func TestOneActiveNodeOfAnAdmission(t *testing.T) {
	t.Parallel()
	t.Run("one_after_the_other", func(t *testing.T) {
		w := newWorld(t)
		enrol := twoEKs(t, w)
		first := enrol(1, ledger.StatusActive)
		w.append(first)
		_, err := w.s.Append(t.Context(), enrol(2, ledger.StatusActive))
		wantCode(t, err, reason.ChallengeSpent)
		second := enrol(2, ledger.StatusPending)
		w.append(second)
		change := func(c ledger.Commit, kind string, status ledger.Status) error {
			snap, err := w.s.NodeByID(t.Context(), c.Node.ID)
			if err != nil {
				t.Fatal(err)
			}
			snap.Node.Status = status
			_, err = w.s.Append(t.Context(), grantCommit(t, kind, string(snap.Node.ID),
				ledger.Commit{BasedOn: snap.State.Version, Node: &snap.Node, State: &snap.State}))
			return err
		}
		wantCode(t, change(second, ledger.TypeNodeApproved, ledger.StatusActive), reason.NodeIdentityConflict)
		if snap, err := w.s.NodeByID(t.Context(), second.Node.ID); err != nil || snap.Node.Status != ledger.StatusPending || snap.State.Version != 1 {
			t.Errorf("a refused approval left %+v, %v", snap, err)
		}
		if err := change(first, ledger.TypeNodeDisabled, ledger.StatusDisabled); err != nil {
			t.Fatal(err)
		}
		if err := change(second, ledger.TypeNodeApproved, ledger.StatusActive); err != nil {
			t.Errorf("after the first is disabled: %v", err)
		}
		wantCode(t, change(first, ledger.TypeNodeApproved, ledger.StatusActive), reason.NodeIdentityConflict)
		ids, err := w.s.NodesByAdmission(t.Context(), first.Node.Admission)
		if err != nil || len(ids) != 1 || ids[0] != second.Node.ID {
			t.Errorf("nodes of the admission: %v, %v", ids, err)
		}
		w.verify("")
	})
	t.Run("at_once", func(t *testing.T) {
		w := newWorld(t)
		other, enrol := w.db.Open(t, nil), twoEKs(t, w)
		raceOneWinner(t, func(i int) (ledger.Commit, appender) {
			return enrol(i, ledger.StatusActive), either(i, w.s, other)
		}, reason.ChallengeSpent)
		w.verify("")
	})
	t.Run("approved_at_once", func(t *testing.T) {
		w := newWorld(t)
		other, enrol := w.db.Open(t, nil), twoEKs(t, w)
		commits := make([]ledger.Commit, 12)
		for i := range commits {
			c := enrol(i, ledger.StatusPending)
			w.append(c)
			c.Node.Status = ledger.StatusActive
			commits[i] = grantCommit(t, ledger.TypeNodeApproved, string(c.Node.ID), ledger.Commit{BasedOn: 1, Node: c.Node, State: c.State})
		}
		raceOneWinner(t, func(i int) (ledger.Commit, appender) { return commits[i], either(i, w.s, other) }, reason.NodeIdentityConflict)
		w.verify("")
	})
	t.Run("any_genuine_is_no_admission", func(t *testing.T) {
		w := newWorld(t)
		for i := range 2 {
			n := testNode(i, 0, ledger.Admission{ID: uuid.Nil})
			n.AdmittedBy = ledger.AdmitAnyGenuine
			c := attestation(t, ledger.Snapshot{Node: n}, ledger.VerdictAllow)
			c.Node = &n
			w.append(c)
		}
	})
}

// TestOneNodeOfAJoinToken: the node alone stops a second one, whatever became of
// the token's row.
func TestOneNodeOfAJoinToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other, jt := w.db.Open(t, nil), joinToken(t)
	w.append(tokenCommit(t, jt))
	make := func(i int, status ledger.Status) ledger.Commit {
		n := testNode(i, 0, ledger.Admission{ID: jt.ID, Machine: jt.Machine, Groups: jt.Groups})
		n.AdmittedBy, n.Status = ledger.AdmitJoinToken, status
		c := attestation(t, ledger.Snapshot{Node: n}, ledger.VerdictAllow)
		c.Node = &n
		return c
	}
	raceOneWinner(t, func(i int) (ledger.Commit, appender) {
		return make(i, ledger.StatusActive), either(i, w.s, other)
	}, reason.ChallengeSpent)
	_, err := w.s.Append(t.Context(), make(20, ledger.StatusDisabled))
	wantCode(t, err, reason.ChallengeSpent)
}
