package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
)

func nodeEraseCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "erase NODE --reason WHY -o FILE",
		Short: "Remove what is personal of a node, for good",
		Long: `Erase disables a node for good and deletes what the database holds of it: its
records with their quotes, the keys and the EK certificate of its TPM, SVID rows,
drift and intervals. Logs that hosts share go with their week. Its id, the hash of
its EK and the entries of the log stay, and so does its admission (zonebroker node
revoke). A legal hold refuses it. Where the node has records in several logs, run it
at a broker of each.

FILE gets the proof that the log is whole: the entries of the deleted records with
their inclusion proofs. zonebroker history verify-erasure checks it without a
broker. Run it again after an error: it goes on where it stopped. Only the admin
socket takes it.`,
		Example: `  zonebroker node erase abcdefghijklmnopqrstuvwxyz --reason "request 7" -o erased.json`,
		Args:    cobra.ExactArgs(1),
	}
	server := socketFlag(cmd)
	why := cmd.Flags().String("reason", "", "why, for the history")
	out := cmd.Flags().StringP("out", "o", "", "file for the proof; it must not exist")
	for _, name := range []string{"reason", "out"} {
		_ = cmd.MarkFlagRequired(name)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		req := api.EraseRequest{Reason: *why}
		if err := req.Validate(); err != nil {
			return usageError{err.Error()}
		}
		c, err := newSocketClient(*server)
		if err != nil {
			return err
		}
		// Made first: an erasure whose proof has no place is asked for once more.
		f, err := os.OpenFile(*out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		var p api.ErasureProof
		if err := c.post(cmd.Context(), "/v1/nodes/"+url.PathEscape(args[0])+"/erase", req, &p); err != nil {
			_ = os.Remove(*out)
			return err
		}
		if err := terminal.JSON(f, p); err != nil {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "erased %d records; proof of %d entries in %s\n", p.Rows.Records, len(p.Entries), *out)
		return f.Close()
	}
	return cmd
}

// maxErasure bounds a file with the proof of an erasure.
const maxErasure = maxAnswer

func historyVerifyErasureCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify-erasure FILE",
		Short: "Check the proof of an erasure, without a broker",
		Long: `Verify-erasure checks a file of zonebroker node erase with the log's public key: the
record of the erasure is in the signed tree and commits to the list of what went;
each listed record's entry is in the tree where it was; and the tree extends the
checkpoint from before the erasure. It exits 5 when anything does not hold.

The key is log.pub of the broker's folder.`,
		Example: `  zonebroker history verify-erasure erased.json --key log.pub`,
		Args:    cobra.ExactArgs(1),
	}
	output := outputFlag(cmd)
	key := cmd.Flags().String("key", "", "the log's public key (default: log.pub in the folder ZONEBROKER_DIR)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		check, err := logVerifier(*key)
		if err != nil {
			return err
		}
		raw, err := readForeign(cmd.InOrStdin(), args[0], maxErasure)
		if err != nil {
			return err
		}
		var p api.ErasureProof
		if err := json.Unmarshal(raw, &p); err != nil {
			return fmt.Errorf("%s: not a proof of an erasure: %w", args[0], err)
		}
		evidence, err := evidenceOf(p)
		if err != nil {
			return unproved{why: err.Error()}
		}
		e, err := ledger.CheckErasure(evidence, check)
		if err != nil {
			return unproved{why: err.Error()}
		}
		return printErasure(cmd, *output, p, e)
	}
	return cmd
}

// evidenceOf takes a proof apart; lengths are not trusted.
func evidenceOf(p api.ErasureProof) (ledger.ErasureEvidence, error) {
	id, err := uuid.Parse(p.Record.ID)
	if err != nil || len(p.Record.Salt) != 32 {
		return ledger.ErasureEvidence{}, errors.New("the record has no id or salt")
	}
	out := ledger.ErasureEvidence{
		Node: ledger.NodeID(p.Node), Record: id, Index: p.Record.Index, RecordedAt: p.Record.RecordedAt, Salt: [32]byte(p.Record.Salt),
		Body: p.Record.Body, List: p.List, Before: p.Before, After: p.After, LeftOut: max(0, p.LeftOut),
	}
	if out.Proof.Consistency, err = hashesOf(p.Consistency); err != nil {
		return out, err
	}
	for _, e := range p.Entries {
		if len(e.Entry) != ledger.EntrySize {
			return out, fmt.Errorf("entry %d has %d bytes", e.Index, len(e.Entry))
		}
		proof, err := hashesOf(e.Proof)
		if err != nil {
			return out, err
		}
		out.Proof.Entries = append(out.Proof.Entries, ledger.ProvedEntry{Index: e.Index, Entry: ledger.Entry(e.Entry), Proof: proof})
	}
	return out, nil
}

func hashesOf(list []api.Bytes) ([][32]byte, error) {
	out := make([][32]byte, len(list))
	for i, h := range list {
		if len(h) != 32 {
			return nil, errors.New("a hash of a proof has not 32 bytes")
		}
		out[i] = [32]byte(h)
	}
	return out, nil
}

func logVerifier(path string) (note.Verifier, error) {
	if path == "" {
		dir := os.Getenv("ZONEBROKER_DIR")
		if dir == "" {
			return nil, usageError{"name the log's public key: --key FILE, or the broker's folder in ZONEBROKER_DIR"}
		}
		path = filepath.Join(dir, logPublic)
	}
	raw, err := readCapped(path, maxConfig)
	if err != nil {
		return nil, err
	}
	return ledger.ParseLogPublic(string(raw))
}

// shownErasure is a checked erasure in JSON.
type shownErasure struct {
	Node    string `json:"node"`
	Record  string `json:"record"`
	Reason  string `json:"reason"`
	By      string `json:"by"`
	Size    int64  `json:"size"`
	Before  int64  `json:"before"`
	Listed  int64  `json:"listed"`
	Proved  int    `json:"proved"`
	LeftOut int64  `json:"left_out"`
}

func printErasure(cmd *cobra.Command, output format, p api.ErasureProof, e ledger.CheckedErasure) error {
	s := shownErasure{
		Node: p.Node, Record: p.Record.ID, Reason: e.Grant.Note, By: e.Grant.By, Size: e.After.Size, Before: e.Before.Size,
		Listed: e.Listed, Proved: len(p.Entries) - 1, LeftOut: p.LeftOut,
	}
	if output == asJSON {
		return terminal.JSON(cmd.OutOrStdout(), s)
	}
	return terminal.Rows(cmd.OutOrStdout(), [][2]string{
		{"erased node", s.Node},
		{"record", s.Record + ", index " + strconv.FormatInt(p.Record.Index, 10)},
		{"reason", s.Reason},
		{"by", s.By},
		{"records gone", strconv.FormatInt(s.Listed, 10)},
		{"entries proved", strconv.Itoa(s.Proved)},
		{"without a proof here", strconv.FormatInt(s.LeftOut, 10)},
		{"log", fmt.Sprintf("whole from size %d to %d", s.Before, s.Size)},
	})
}
