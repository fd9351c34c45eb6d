-- works with programs of schema 3
--
-- The history in its lasting form: bodies packed, evidence with the record that
-- it belongs to, intervals instead of scans, and rows that retention can drop by
-- zone and kind. Programs that know schema 3 go on working on this one: every
-- new column has a default, and nothing that they write has moved.

-- Migrations that programs of an earlier schema go on working with stand here and
-- not in schema_file, where those programs would stop at them.
CREATE TABLE schema_compatible (
    version    bigint PRIMARY KEY,
    name       text NOT NULL,
    sha256     bytea NOT NULL CHECK (octet_length(sha256) = 32),
    works_with bigint NOT NULL CHECK (works_with < version), -- oldest schema whose programs it works with
    applied_at timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT ON schema_compatible TO zb_writer, zb_reader;

-- keep is the retention group of a row's zone, 0 for what no group names. Week
-- partitions made from now on are split by it, so that a group's week can go.
ALTER TABLE attestation ADD COLUMN keep smallint NOT NULL DEFAULT 0;
ALTER TABLE evidence_part ADD COLUMN keep smallint NOT NULL DEFAULT 0;
ALTER TABLE svid ADD COLUMN keep smallint NOT NULL DEFAULT 0;
ALTER TABLE drift_event ADD COLUMN keep smallint NOT NULL DEFAULT 0;

-- The body is packed (first byte: codec and dictionary) or, in older rows, text.
ALTER TABLE attestation ALTER COLUMN body DROP NOT NULL;
ALTER TABLE attestation ADD COLUMN packed bytea;
ALTER TABLE attestation ADD CONSTRAINT attestation_body CHECK (num_nonnulls(body, packed) = 1);
ALTER TABLE attestation ALTER COLUMN packed SET STORAGE EXTERNAL;

-- Lists span all logs: newest first by time, then by index and log. Rows of one
-- time are few (a batch), so that an index needs the time alone. Who reads the
-- history is recorded there and must not bury what was decided.
DROP INDEX attestation_node, attestation_denied, attestation_reason, attestation_grant, attestation_zone, attestation_time;
CREATE INDEX attestation_recorded ON attestation (recorded_at) WHERE type <> 'history.read';
CREATE INDEX attestation_node ON attestation (node_id, recorded_at) WHERE node_id <> '';
CREATE INDEX attestation_zone ON attestation (zone, recorded_at) WHERE zone <> '';
CREATE INDEX attestation_denied ON attestation (recorded_at) WHERE verdict = 'deny';
CREATE INDEX attestation_reason ON attestation (reason, recorded_at) WHERE verdict = 'deny';
CREATE INDEX attestation_grant ON attestation (type, recorded_at) WHERE type NOT IN ('attestation', 'svid.issued');
DROP INDEX drift_event_node, drift_event_kind, drift_event_zone;
CREATE INDEX drift_event_recorded ON drift_event (recorded_at DESC, log_idx DESC, log_id DESC, ord);
CREATE INDEX drift_event_node ON drift_event (node_id, recorded_at DESC, log_idx DESC, log_id DESC, ord);
CREATE INDEX drift_event_kind ON drift_event (kind, recorded_at DESC, log_idx DESC, log_id DESC, ord);
CREATE INDEX drift_event_zone ON drift_event (zone, recorded_at DESC, log_idx DESC, log_id DESC, ord);

-- Of the attestation that showed the state before: detection took no longer than
-- from then to recorded_at.
ALTER TABLE drift_event ADD COLUMN last_good timestamptz;

-- Evidence that belongs to one record alone (quote, signature, proof of the key)
-- stands beside it: one row a record, ord 0, kind 'inline', packed.
ALTER TABLE evidence_part ADD COLUMN packed bytea;
ALTER TABLE evidence_part ALTER COLUMN packed SET STORAGE EXTERNAL;

-- Evidence that hosts share, by content, once a week and retention group: a week
-- can be dropped, because the next one has its own.
CREATE TABLE evidence_content (
    recorded_at timestamptz NOT NULL, -- Monday of the week
    keep        smallint NOT NULL,
    digest      bytea NOT NULL CHECK (octet_length(digest) = 32),
    kind        text NOT NULL,
    size        integer NOT NULL,     -- unpacked
    packed      bytea NOT NULL,
    PRIMARY KEY (digest, recorded_at, keep)
) PARTITION BY RANGE (recorded_at);
ALTER TABLE evidence_content ALTER COLUMN packed SET STORAGE EXTERNAL;

-- What a machine measured, as facts: a few thousand sets a fleet.
CREATE TABLE measurement_set (
    digest     bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
    facts      text NOT NULL, -- RFC 8785 object name -> value; digest is its SHA-256
    first_seen timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE measurement_fact (
    name   text NOT NULL,
    value  text NOT NULL,
    digest bytea NOT NULL REFERENCES measurement_set,
    PRIMARY KEY (name, value, digest)
);

-- Spans in which a node earned one zone with one measurement under one policy.
-- The open one stands in node_state; it comes here when it ends, and at the end
-- of a week, so that no span is longer than one.
CREATE TABLE measurement_interval (
    recorded_at    timestamptz NOT NULL, -- of the record that ended it
    log_id         text NOT NULL,
    log_idx        bigint NOT NULL,
    keep           smallint NOT NULL DEFAULT 0,
    node_id        text NOT NULL,
    zone           text NOT NULL,
    measured       bytea NOT NULL CHECK (octet_length(measured) = 32),
    policy_version bigint NOT NULL,
    valid_from     timestamptz NOT NULL, -- decision of the first attestation
    valid_until    timestamptz NOT NULL, -- fresh_until of the last, or when it was ended
    expires_at     timestamptz NOT NULL, -- latest notAfter of its SVIDs
    first_record   uuid NOT NULL,
    last_record    uuid NOT NULL,
    renewals       bigint NOT NULL,
    ended          text NOT NULL CHECK (ended IN ('changed', 'denied', 'lapsed', 'split'))
) PARTITION BY RANGE (recorded_at);
CREATE INDEX measurement_interval_idx ON measurement_interval USING brin (log_idx) WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX measurement_interval_from ON measurement_interval (valid_from);
CREATE INDEX measurement_interval_zone ON measurement_interval (zone, valid_from);
CREATE INDEX measurement_interval_node ON measurement_interval (node_id, valid_from);
CREATE INDEX measurement_interval_set ON measurement_interval (measured, valid_from);
CREATE INDEX measurement_interval_policy ON measurement_interval (policy_version, valid_from);

-- The open interval. It grants nothing and can be made again from the records, so
-- it stands outside the row's HMAC; span_last tells whether a program of schema 3
-- went over it.
ALTER TABLE node_state
    ADD COLUMN span_zone     text,
    ADD COLUMN span_measured bytea,
    ADD COLUMN span_policy   bigint,
    ADD COLUMN span_from     timestamptz,
    ADD COLUMN span_first    uuid,
    ADD COLUMN span_until    timestamptz,
    ADD COLUMN span_expires  timestamptz,
    ADD COLUMN span_last     uuid,
    ADD COLUMN span_renewals bigint;
CREATE INDEX node_state_zone ON node_state (zone, node_id);
CREATE INDEX node_state_span ON node_state (span_zone, node_id) WHERE span_zone IS NOT NULL;
CREATE INDEX node_state_measured ON node_state (span_measured) WHERE span_measured IS NOT NULL;
-- Refused nodes are few, and change seldom. No index holds what every renewal
-- changes: it would double the price of one.
CREATE INDEX node_state_refused ON node_state (node_id) WHERE verdict = 'deny';
CREATE INDEX node_inactive ON node (node_id) WHERE status <> 'active';
CREATE INDEX node_machine ON node (machine) WHERE machine <> '';

-- Attestations an hour, counted in the commit that records them. One row a
-- writer, so that writers never wait for one another.
CREATE TABLE attest_hourly (
    hour    timestamptz NOT NULL,
    zone    text NOT NULL,
    verdict text NOT NULL,
    reason  text NOT NULL,
    writer  text NOT NULL,
    n       bigint NOT NULL CHECK (n > 0),
    PRIMARY KEY (hour, zone, verdict, reason, writer)
) WITH (fillfactor = 50);

-- The log that an admission was last changed in, and when: brokers with a log each
-- read the changes of all. So far there was one log.
-- timed_seq is the change_seq that both belong to: programs of schema 3 leave it
-- behind, and the trigger then takes both back.
DO $$
DECLARE log text := (SELECT coalesce(min(log_id), 'main') FROM log_head);
BEGIN
    EXECUTE format('ALTER TABLE admission ADD COLUMN change_log text NOT NULL DEFAULT %L', log);
    EXECUTE format('CREATE FUNCTION admission_change() RETURNS trigger LANGUAGE plpgsql AS %L', format(
        'BEGIN NEW.change_log := %L; NEW.changed_at := NULL; NEW.timed_seq := NULL; RETURN NEW; END', log));
END $$;
ALTER TABLE admission ADD COLUMN changed_at timestamptz, ADD COLUMN timed_seq bigint;
CREATE TRIGGER admission_change BEFORE UPDATE ON admission FOR EACH ROW
    WHEN (NEW.timed_seq IS DISTINCT FROM NEW.change_seq OR (NEW.change_log, NEW.change_seq) = (OLD.change_log, OLD.change_seq))
    EXECUTE FUNCTION admission_change();
CREATE INDEX admission_change ON admission (change_log, change_seq, admission_id);

-- The machines that there should be, as imported last.
CREATE TABLE inventory (
    machine  text PRIMARY KEY,
    model    text NOT NULL,
    site     text NOT NULL,
    ek_hash  bytea CHECK (octet_length(ek_hash) = 32),
    import   uuid NOT NULL -- record of the import
);
CREATE INDEX inventory_ek ON inventory (ek_hash) WHERE ek_hash IS NOT NULL;

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['evidence_content', 'measurement_set', 'measurement_fact', 'measurement_interval'] LOOP
        EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON %I FOR EACH ROW EXECUTE FUNCTION refuse_change()', t);
        EXECUTE format('CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON %I EXECUTE FUNCTION refuse_change()', t);
    END LOOP;
END $$;

GRANT SELECT ON evidence_content, measurement_set, measurement_fact, measurement_interval, attest_hourly, inventory TO zb_writer, zb_reader;
GRANT INSERT ON evidence_content, measurement_set, measurement_fact, measurement_interval, attest_hourly, inventory TO zb_writer;
GRANT UPDATE ON attest_hourly TO zb_writer;
GRANT DELETE ON inventory TO zb_writer;

-- Retention. A version of the retention document that is in force: which zones
-- make which group. Group n of the list has keep n; names are only ever added, so
-- that rows keep theirs. The document itself is an object.
CREATE TABLE retention (
    version    bigint PRIMARY KEY CHECK (version > 0),
    document   bytea NOT NULL CHECK (octet_length(document) = 32),
    groups     text[] NOT NULL CHECK (cardinality(groups) <= 8),
    granted_by text NOT NULL,
    created_at timestamptz NOT NULL,
    mac        bytea NOT NULL CHECK (octet_length(mac) = 32)
);
CREATE TRIGGER retention_fence BEFORE UPDATE OR DELETE ON retention FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER retention_truncate BEFORE TRUNCATE ON retention EXECUTE FUNCTION refuse_change();

-- Nothing that a hold touches is dropped or erased. NULL bounds are open.
CREATE TABLE legal_hold (
    hold_id    uuid PRIMARY KEY,
    node_id    text NOT NULL,
    zone       text NOT NULL,
    since      timestamptz,
    until      timestamptz,
    reason     text NOT NULL,
    granted_by text NOT NULL,
    released   boolean NOT NULL,
    created_at timestamptz NOT NULL,
    mac        bytea NOT NULL CHECK (octet_length(mac) = 32)
);
CREATE FUNCTION legal_hold_fence() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR OLD.released OR NOT NEW.released
        OR (NEW.hold_id, NEW.node_id, NEW.zone, NEW.since, NEW.until, NEW.reason, NEW.granted_by, NEW.created_at)
        IS DISTINCT FROM (OLD.hold_id, OLD.node_id, OLD.zone, OLD.since, OLD.until, OLD.reason, OLD.granted_by, OLD.created_at) THEN
        RAISE EXCEPTION 'a legal hold can only be released' USING ERRCODE = '55000';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER legal_hold_fence BEFORE UPDATE OR DELETE ON legal_hold FOR EACH ROW EXECUTE FUNCTION legal_hold_fence();
CREATE TRIGGER legal_hold_truncate BEFORE TRUNCATE ON legal_hold EXECUTE FUNCTION refuse_change();

-- A node whose personal data goes: the rows of its own, and the keys and the
-- certificate of its TPM.
CREATE TABLE erasure (
    node_id    text PRIMARY KEY,
    object     bytea NOT NULL CHECK (octet_length(object) = 32), -- what lists the rows
    reason     text NOT NULL,
    granted_by text NOT NULL,
    created_at timestamptz NOT NULL,
    digests    bytea[] NOT NULL,
    mac        bytea NOT NULL CHECK (octet_length(mac) = 32)
);
CREATE TRIGGER erasure_fence BEFORE UPDATE OR DELETE ON erasure FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER erasure_truncate BEFORE TRUNCATE ON erasure EXECUTE FUNCTION refuse_change();

-- Single rows of the history go for an erasure alone, by the owner's hand. The
-- argument says by what the row is known.
CREATE FUNCTION history_fence() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE ok boolean := false;
BEGIN
    IF TG_OP = 'DELETE' AND current_user = 'zb_owner' THEN
        CASE TG_ARGV[0]
        WHEN 'record' THEN
            ok := OLD.type <> 'node.erased' AND EXISTS (SELECT 1 FROM erasure e WHERE e.node_id = OLD.node_id);
        WHEN 'node' THEN
            ok := EXISTS (SELECT 1 FROM erasure e WHERE e.node_id = OLD.node_id);
        WHEN 'part' THEN
            ok := EXISTS (SELECT 1 FROM attestation a JOIN erasure e ON e.node_id = a.node_id
                WHERE a.recorded_at = OLD.recorded_at AND a.log_id = OLD.log_id AND a.log_idx = OLD.log_idx);
        WHEN 'content' THEN -- of one TPM alone; hosts share the rest
            ok := OLD.kind IN ('tpm2.ak_public', 'tpm2.ek_public', 'tpm2.ek_certificate')
                AND EXISTS (SELECT 1 FROM erasure e WHERE OLD.digest = ANY (e.digests));
        WHEN 'digest' THEN
            ok := EXISTS (SELECT 1 FROM erasure e WHERE OLD.digest = ANY (e.digests));
        END CASE;
    END IF;
    IF NOT ok THEN
        RAISE EXCEPTION '% on %: this table is append-only', TG_OP, TG_TABLE_NAME USING ERRCODE = '55000';
    END IF;
    RETURN OLD;
END $$;

DO $$
DECLARE t text[];
BEGIN
    FOREACH t SLICE 1 IN ARRAY ARRAY[['attestation', 'record'], ['svid', 'node'], ['drift_event', 'node'], ['measurement_interval', 'node'],
        ['evidence_part', 'part'], ['evidence_content', 'content'], ['evidence', 'digest']] LOOP
        EXECUTE format('DROP TRIGGER append_only ON %I', t[1]);
        EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON %I FOR EACH ROW EXECUTE FUNCTION history_fence(%L)', t[1], t[2]);
    END LOOP;
END $$;

GRANT SELECT ON retention, legal_hold, erasure TO zb_writer, zb_reader;
GRANT INSERT ON retention, legal_hold, erasure TO zb_writer;
GRANT UPDATE ON legal_hold TO zb_writer;
