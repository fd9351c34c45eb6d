-- Statements of programs of schema 3 with sample values, in the order of a group
-- commit: they have to go on working on every schema that declares it.

PREPARE new_node AS WITH made AS (
	INSERT INTO node (node_id, root_kind, root_hash, ek_public, ak_public, ak_name, manufacturer, admitted_by, admission,
		machine, groups, status, ak_approved, created_at, mac, tpm_model, tpm_version, ek_expired)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
	ON CONFLICT DO NOTHING RETURNING node_id)
INSERT INTO node_state (node_id, version, last, confirmed, rebaseline, has_clock, clock, reset_count, restart_count, firmware,
	pcrs, event_log, zone, tier, verdict, reason, policy_version, attested_at, fresh_until, expires_at, last_attempt_at,
	last_ok_at, repeats, secure_boot, seen, reboot_until, ima, mac)
SELECT node_id, 1, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40,
	$41, $42, $43, $44
FROM made RETURNING node_id;

EXECUTE new_node ('old', 'ek', sha256('old'), '', '', 'old', 'STM', 'inventory', gen_random_uuid(), 'm', '{}', 'active', true, now(),
	sha256('m'), '', '', false, gen_random_uuid(), NULL, false, true, 1, 1, 1, 1, NULL, NULL, 'payments', 2, 'allow', '', 1, now(), now(),
	now(), now(), now(), 0, 'on', NULL, NULL, NULL, sha256('m'));

PREPARE guards AS SELECT node_id, version FROM node_state WHERE node_id = ANY ($1) ORDER BY node_id COLLATE "C" FOR UPDATE;

EXECUTE guards ('{old}');

PREPARE compare_and_set AS UPDATE node_state SET version = version + 1, mac = $3, last = $4, confirmed = $5, rebaseline = $6,
	has_clock = $7, clock = $8, reset_count = $9, restart_count = $10, firmware = $11, pcrs = $12, event_log = $13, zone = $14,
	tier = $15, verdict = $16, reason = $17, policy_version = $18, attested_at = $19, fresh_until = $20, expires_at = $21,
	last_attempt_at = $22, last_ok_at = $23, repeats = $24, secure_boot = $25, seen = $26,
	reboot_until = $27, ima = $28
WHERE node_id = $1 AND version = $2;

EXECUTE compare_and_set ('old', 1, sha256('m'), gen_random_uuid(), NULL, false, true, 2, 1, 1, 1, NULL, NULL, 'payments', 2, 'allow', '', 1,
	now(), now(), now(), now(), now(), 0, 'on', NULL, NULL, NULL);

PREPARE replace_node AS UPDATE node SET ek_public = $3, ak_public = $4, ak_name = $5, manufacturer = $6, admitted_by = $7,
	admission = $8, machine = $9, groups = $10, status = $11, ak_approved = $12, mac = $13,
	tpm_model = $14, tpm_version = $15, ek_expired = $16
WHERE node_id = $1 AND root_hash = $2 RETURNING node_id;

EXECUTE replace_node ('old', sha256('old'), '', '', 'old', 'STM', 'inventory', gen_random_uuid(), 'm', '{}', 'disabled', true, sha256('m'), '', '', false);

PREPARE head AS SELECT size, frontier, recorded_at, clock_timestamp() FROM
	(SELECT size, frontier, recorded_at FROM log_head WHERE log_id = $1 FOR UPDATE) locked;

EXECUTE head ('main');

COPY attestation (recorded_at, log_id, log_idx, record_id, type, node_id, zone, verdict, reason,
		attested_at, fresh_until, policy_version, salt, body) FROM STDIN (FORMAT csv);
now,old,900000,00000000-0000-7000-8000-000000000001,attestation,old,payments,allow,"",,,1,\x00000000000000000000000000000000000000000000000000000000000000ff,{}

COPY evidence_part (recorded_at, log_id, log_idx, ord, kind, digest) FROM STDIN (FORMAT csv);
now,old,900000,0,tpm2.quote,\x00

COPY svid (recorded_at, log_id, log_idx, ord, node_id, profile, serial, spiffe_id, not_before, not_after,
		tbs_sha256, ca_key_id, key, audience) FROM STDIN (FORMAT csv);
now,old,900000,0,old,x509,ff,spiffe://x,now,now,aa,bb,tpm,""

COPY drift_event (recorded_at, log_id, log_idx, ord, record_id, node_id, zone, kind, before_value, after_value) FROM STDIN (FORMAT csv);
now,old,900000,0,00000000-0000-7000-8000-000000000001,old,payments,pcr.4,aa,bb

PREPARE add_evidence AS INSERT INTO evidence (digest, bytes) SELECT * FROM unnest($1::bytea[], $2::bytea[]) ON CONFLICT DO NOTHING;

EXECUTE add_evidence (ARRAY[sha256('old part')], ARRAY['old part'::bytea]);

PREPARE stored AS SELECT digest FROM evidence WHERE digest = ANY ($1);

EXECUTE stored (ARRAY[sha256('old part')]);

PREPARE admit AS INSERT INTO admission (admission_id, kind, machine, groups, ek_hashes, granted_by, revoked, created_at, change_seq, mac)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);

EXECUTE admit (gen_random_uuid(), 'inventory', 'm2', '{}', ARRAY[sha256('ek')], 'uid:0', false, now(), 900001, sha256('m'));

PREPARE admissions AS SELECT admission_id, kind, machine, groups, ek_hashes, granted_by, revoked, created_at, change_seq, mac FROM admission
	WHERE (change_seq, admission_id) > ($1, $2) ORDER BY change_seq, admission_id LIMIT $3;

EXECUTE admissions (0, '00000000-0000-0000-0000-000000000000', 10);

PREPARE token AS INSERT INTO join_token (token_id, secret_hash, machine, groups, granted_by, created_at, expires_at, mac)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8);

EXECUTE token ('00000000-0000-7000-8000-000000000002', sha256('secret'), 'm', '{}', 'uid:0', now(), now(), sha256('m'));

PREPARE use_token AS UPDATE join_token SET used_by = $2, mac = $3
	WHERE token_id = $1 AND used_by IS NULL AND mac = $4 RETURNING token_id::text;

EXECUTE use_token ('00000000-0000-7000-8000-000000000002', 'old', sha256('n'), sha256('m'));

PREPARE add_key AS INSERT INTO key (key_id, kind, replica, der, not_before, not_after, mac) VALUES ($1, $2, $3, $4, $5, $6, $7);

EXECUTE add_key ('ff', 'x509-ca', 'vm', '', now(), now(), sha256('m'));

PREPARE chunk AS INSERT INTO log_entry (log_id, first_idx, entries) VALUES ($1, $2, $3);

EXECUTE chunk ('old', 0, decode(repeat('00', 57), 'hex'));

PREPARE tile AS INSERT INTO log_tile (log_id, level, n, data) VALUES ($1, $2, $3, $4);

EXECUTE tile ('old', 0, 0, decode(repeat('00', 8192), 'hex'));

PREPARE mark AS INSERT INTO log_writer (log_id, writer, seq) VALUES ($1, $2, $3)
	ON CONFLICT (log_id, writer) DO UPDATE SET seq = EXCLUDED.seq, updated_at = now();

EXECUTE mark ('main', 'vm/old', 1);

PREPARE grow AS UPDATE log_head SET size = $2, frontier = $3, recorded_at = $4 WHERE log_id = $1;

EXECUTE grow ('main', 900001, '', 'infinity');

PREPARE note AS INSERT INTO checkpoint (log_id, size, root, note) VALUES ($1, $2, $3, $4);

EXECUTE note ('old', 1, sha256('r'), 'note');

PREPARE refusals AS INSERT INTO refusal_hourly (hour, code, node_id, n) VALUES ($1, $2, $3, $4)
	ON CONFLICT (hour, code, node_id) DO UPDATE SET n = refusal_hourly.n + EXCLUDED.n;

EXECUTE refusals (now(), 'x', '', 1);

PREPARE node_by_id AS SELECT n.node_id, n.root_kind, n.root_hash, n.ek_public, n.ak_public, n.ak_name, n.manufacturer, n.admitted_by,
	n.admission, n.machine, n.groups, n.status, n.ak_approved, n.created_at, n.mac, n.tpm_model, n.tpm_version, n.ek_expired,
	s.version, s.last, s.confirmed, s.rebaseline, s.has_clock, s.clock, s.reset_count, s.restart_count, s.firmware,
	s.pcrs, s.event_log, s.zone, s.tier, s.verdict, s.reason, s.policy_version, s.attested_at, s.fresh_until, s.expires_at,
	s.last_attempt_at, s.last_ok_at, s.repeats, s.secure_boot, s.seen, s.reboot_until, s.ima, s.mac
	FROM node n JOIN node_state s USING (node_id) WHERE n.node_id = $1;

EXECUTE node_by_id ('old');

PREPARE record AS SELECT recorded_at, log_idx, record_id, type, node_id, zone, verdict, reason, attested_at, fresh_until,
	policy_version, salt, body FROM attestation WHERE log_id = $1 AND record_id = $2 AND recorded_at >= $3 AND recorded_at < $4 ORDER BY log_idx LIMIT 1;

EXECUTE record ('old', '00000000-0000-7000-8000-000000000001', now() - interval '1 day', now() + interval '1 day');

PREPARE drift AS SELECT log_idx, ord, record_id, recorded_at, node_id, zone, kind, before_value, after_value FROM drift_event
	WHERE log_id = $1 ORDER BY log_idx DESC, ord LIMIT $2;

EXECUTE drift ('old', 10);

PREPARE applied AS SELECT version, name, sha256 FROM schema_file ORDER BY version;

EXECUTE applied;
