package test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// as runs SQL as the superuser, with the guards of the schema off: what the
// owner of the database can do.
func (c *cluster) as(t testing.TB, sql string, args ...any) {
	t.Helper()
	ctx := context.Background()
	tx, err := c.super.Begin(ctx)
	must(t, err)
	_, err = tx.Exec(ctx, "SET LOCAL session_replication_role = replica")
	must(t, err)
	_, err = tx.Exec(ctx, sql, args...)
	if err != nil {
		t.Fatal(errors.Join(err, tx.Rollback(ctx)))
	}
	must(t, tx.Commit(ctx))
}

// TestT60_TamperedHistory is invariant 7: any change of a byte, any missing or
// reordered row is found.
func TestT60_TamperedHistory(t *testing.T) {
	for _, tt := range []struct{ name, sql string }{
		{"a body edited", `UPDATE attestation SET packed = set_byte(packed, length(packed) / 2, get_byte(packed, length(packed) / 2) # 1) WHERE log_idx = (SELECT max(log_idx) FROM attestation)`},
		{"a column edited", `UPDATE attestation SET verdict = 'deny' WHERE log_idx = (SELECT max(log_idx) FROM attestation)`},
		{"a time edited", `UPDATE attestation SET recorded_at = recorded_at + interval '1 microsecond' WHERE log_idx = (SELECT max(log_idx) FROM attestation)`},
		{"a salt edited", `UPDATE attestation SET salt = sha256(salt) WHERE log_idx = (SELECT max(log_idx) FROM attestation)`},
		{"a row deleted", `DELETE FROM attestation WHERE log_idx = (SELECT max(log_idx) - 1 FROM attestation)`},
		{"the tail cut", `DELETE FROM attestation WHERE log_idx = (SELECT max(log_idx) FROM attestation)`},
		{"two rows reordered", `UPDATE attestation SET log_idx = (SELECT 2*max(log_idx) - 1 FROM attestation) - log_idx WHERE log_idx >= (SELECT max(log_idx) - 1 FROM attestation)`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCluster(t)
			p := c.start(t)
			h := newHost(t, c.rig)
			h.admit(p)
			h.mustAttest(p)
			h.mustAttest(p)
			c.wantWhole(t, p)
			c.as(t, tt.sql)
			out, _, code := c.rig.try(t, []string{"ZONEBROKER_DIR=" + p.dir}, "zonebroker", "history", "verify", "-o", "json")
			var v api.Verification
			if err := json.Unmarshal([]byte(out), &v); err != nil {
				t.Fatalf("exit %d: %v\n%s", code, err, out)
			}
			if code != 5 || v.OK || len(v.Problems) == 0 {
				t.Errorf("exit %d, %+v: the change was not found", code, v)
			}
		})
	}
}

// TestInvariant12_WritingToTheDatabaseEarnsNothing: the superuser cannot forge a
// granting row.
func TestInvariant12_WritingToTheDatabaseEarnsNothing(t *testing.T) {
	t.Run("another AK in node", func(t *testing.T) {
		c := newCluster(t)
		p := c.start(t)
		h, thief := newHost(t, c.rig), newHost(t, c.rig)
		h.admit(p)
		node := h.mustAttest(p).Node
		r := thief.raw(p)
		c.as(t, `UPDATE node SET ak_name = $1, ak_public = $2 WHERE node_id = $3`, r.ak.Name, []byte(r.ak.Public), node)
		_, err := r.client.Challenge(t.Context(), r.renewRequest())
		wantCode(t, err, reason.StoreRowForged)
		if !strings.Contains(p.logText(), "store.row_forged") {
			t.Error("the forged row was not reported")
		}
	})
	t.Run("an admission", func(t *testing.T) {
		c := newCluster(t)
		p := c.start(t)
		h, thief := newHost(t, c.rig), newHost(t, c.rig)
		h.admit(p)
		h.mustAttest(p)
		c.forgeAdmission(t, thief.ekHashes()[1])
		time.Sleep(1500 * time.Millisecond) // a poll of the admissions
		thief.ek = "p256"
		_, err := thief.attest(p)
		wantCode(t, err, reason.NodeAdmissionPending)
		c.wantBroken(t, p)
	})
	t.Run("a CA in key", func(t *testing.T) {
		c := newCluster(t)
		p := c.start(t)
		h := newHost(t, c.rig)
		h.admit(p)
		res := h.mustAttest(p)
		c.as(t, `INSERT INTO key SELECT 'ff' || substr(k.key_id, 3), k.kind, k.replica, k.der, k.not_before, k.not_after, k.mac FROM key k`)
		time.Sleep(1500 * time.Millisecond)
		again := h.mustAttest(p)
		if string(again.Bundle) != string(res.Bundle) {
			t.Errorf("the bundle changed by a row of the superuser")
		}
		c.wantBroken(t, p)
	})
	t.Run("the approval of a node that was rolled back", func(t *testing.T) {
		c := newCluster(t)
		p := c.start(t)
		h := newHost(t, c.rig)
		h.admit(p)
		h.mustAttest(p)
		h.clear()
		h.boot(build.Machine{}.Log())
		_, err := h.attest(p)
		wantCode(t, err, reason.TPM2RolledBack)
		for _, sql := range []string{
			`UPDATE node_state SET rebaseline = true`,
			`UPDATE node_state SET has_clock = false`,
			`UPDATE node_state SET reset_count = 0, clock = 0`,
		} {
			c.as(t, sql)
			if res, err := h.attest(p); err == nil {
				t.Errorf("%s earned %s", sql, res.SPIFFEID)
			}
		}
	})
	t.Run("a golden boot", func(t *testing.T) {
		c := newCluster(t)
		p := c.start(t)
		h := newHost(t, c.rig)
		h.admit(p)
		res := h.mustAttest(p)
		c.as(t, `UPDATE evidence_content SET packed = set_byte(packed, 70, (get_byte(packed, 70) + 1) % 256) WHERE size > 500`)
		_, stderr, code := c.rig.try(t, []string{"ZONEBROKER_DIR=" + p.dir}, "zonebroker", "reference", "learn", "--node", res.Node, "-o", "-", "--name", "x")
		if code == 0 {
			t.Errorf("a reference set was learnt from changed evidence: %s", stderr)
		}
	})
	t.Run("a node enabled again", func(t *testing.T) {
		c := newCluster(t)
		p := c.start(t)
		h := newHost(t, c.rig)
		h.admit(p)
		node := h.mustAttest(p).Node
		p.ctl(t, nil, "node", "disable", node)
		c.as(t, `UPDATE node SET status = 'active' WHERE node_id = $1`, node)
		if res, err := h.attest(p); err == nil {
			t.Errorf("a forged status earned %s", res.SPIFFEID)
		}
	})
}

// wantBroken demands that history verify finds something.
func (c *cluster) wantBroken(t testing.TB, p *replica) {
	t.Helper()
	out, _, code := c.rig.try(t, []string{"ZONEBROKER_DIR=" + p.dir}, "zonebroker", "history", "verify", "-o", "json")
	if code != 5 {
		t.Errorf("history verify: exit %d, want 5\n%s", code, out)
	}
}

// forgeAdmission copies an honest admission's row for another EK.
func (c *cluster) forgeAdmission(t testing.TB, ekHash string) {
	t.Helper()
	c.as(t, `INSERT INTO admission SELECT gen_random_uuid(), kind, machine, groups, ARRAY[decode($1, 'hex')], granted_by, revoked, created_at, change_seq + 1000, mac
		FROM admission LIMIT 1`, ekHash)
}

// TestRolledBackDatabase: a database that lost its newest records does not
// extend the anchor outside it, and nothing is issued.
func TestRolledBackDatabase(t *testing.T) {
	c := newCluster(t)
	p := c.startEmbedded(t)
	h := newHost(t, c.rig)
	h.admit(p)
	h.mustAttest(p)
	p.stop(t)
	pg, saved := filepath.Join(p.dir, "pg"), filepath.Join(p.dir, "pg-saved")
	copyTree(t, saved, pg)
	p.launchEmbedded(t)
	h.mustAttest(p)
	time.Sleep(1500 * time.Millisecond) // a checkpoint of the newer head
	p.stop(t)
	must(t, os.RemoveAll(pg))
	copyTree(t, pg, saved)
	_, stderr, code := c.rig.try(t, nil, "zonebroker", "serve", "--dir", p.dir, "--listen", "127.0.0.1:0")
	if code == 0 || !strings.Contains(stderr, "ledger.fork") {
		t.Errorf("a rolled-back database was taken: exit %d\n%s", code, stderr)
	}
}

// copyTree copies with owners and modes, which Go's CopyFS does not keep.
func copyTree(t testing.TB, dst, src string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", src, dst).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
}

// TestForkShownByAnAgent: an agent that holds a signed checkpoint which the log
// does not have stops issuing and signing.
func TestForkShownByAnAgent(t *testing.T) {
	c := newCluster(t)
	p := c.start(t)
	h := newHost(t, c.rig)
	h.admit(p)
	r := h.raw(p)
	res := r.enrol()
	// The log's key signs another history, as a second database under the same
	// keys would.
	raw, err := os.ReadFile(filepath.Join(p.dir, "secrets", "log.key"))
	must(t, err)
	signer, err := note.NewSigner(strings.TrimSpace(string(raw)))
	must(t, err)
	forged, err := ledger.Checkpoint{Origin: signer.Name(), Size: 3, Root: [32]byte{1}}.Sign(signer)
	must(t, err)

	req := r.evidence(r.challenge(r.renewRequest()))
	req.Prev, req.Checkpoint = res.AttestationID, forged
	_, err = r.client.Attest(t.Context(), req)
	wantCode(t, err, reason.LedgerFork)
	signed := p.anchor(t)
	_, err = r.client.Attest(t.Context(), r.evidence(r.challenge(r.renewRequest())))
	wantCode(t, err, reason.LedgerFork)
	time.Sleep(2500 * time.Millisecond)
	if p.anchor(t) != signed {
		t.Error("checkpoints are still signed after a fork")
	}
}

func (p *replica) anchor(t testing.TB) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(p.dir, "log-anchor.note"))
	must(t, err)
	return string(raw)
}
