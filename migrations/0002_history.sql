-- The history: append-only, partitioned by time. Partitions are made ahead by
-- the owner's role; there is no default partition, because a missing one must
-- fail loudly.

CREATE TABLE attestation (
    recorded_at    timestamptz NOT NULL,
    log_id         text NOT NULL,
    log_idx        bigint NOT NULL CHECK (log_idx >= 0),
    record_id      uuid NOT NULL,
    type           text NOT NULL,
    node_id        text NOT NULL,
    zone           text NOT NULL,
    verdict        text NOT NULL,
    reason         text NOT NULL,
    attested_at    timestamptz,
    fresh_until    timestamptz,
    policy_version bigint NOT NULL,
    salt           bytea NOT NULL CHECK (octet_length(salt) = 32),
    body           text NOT NULL -- RFC 8785; the leaf commits to these bytes
) PARTITION BY RANGE (recorded_at);
CREATE INDEX attestation_idx ON attestation (log_idx);
CREATE INDEX attestation_record ON attestation (record_id);
CREATE INDEX attestation_node ON attestation (node_id, log_idx) WHERE node_id <> '';
-- Denials and grants are few: their own indices cost next to nothing, and
-- finding them costs nothing among a billion renewals.
CREATE INDEX attestation_denied ON attestation (log_idx) WHERE verdict = 'deny';
CREATE INDEX attestation_reason ON attestation (reason, log_idx) WHERE verdict = 'deny';
CREATE INDEX attestation_grant ON attestation (type, log_idx) WHERE type NOT IN ('attestation', 'svid.issued');
CREATE INDEX attestation_zone ON attestation (zone, log_idx) WHERE zone <> '';
CREATE INDEX attestation_time ON attestation USING brin (recorded_at) WITH (autosummarize = on);

CREATE TABLE evidence (
    digest     bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
    bytes      bytea NOT NULL,
    first_seen timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE evidence_part (
    recorded_at timestamptz NOT NULL,
    log_id      text NOT NULL,
    log_idx     bigint NOT NULL,
    ord         smallint NOT NULL,
    kind        text NOT NULL,
    digest      bytea NOT NULL
) PARTITION BY RANGE (recorded_at);
CREATE INDEX evidence_part_idx ON evidence_part USING brin (log_idx) WITH (pages_per_range = 32, autosummarize = on);

CREATE TABLE svid (
    recorded_at timestamptz NOT NULL,
    log_id      text NOT NULL,
    log_idx     bigint NOT NULL,
    ord         smallint NOT NULL,
    node_id     text NOT NULL,
    profile     text NOT NULL,
    serial      text NOT NULL,
    spiffe_id   text NOT NULL,
    not_before  timestamptz NOT NULL,
    not_after   timestamptz NOT NULL,
    tbs_sha256  text NOT NULL,
    ca_key_id   text NOT NULL,
    key         text NOT NULL,
    audience    text NOT NULL -- of a JWT-SVID, '' otherwise
) PARTITION BY RANGE (recorded_at);
CREATE INDEX svid_serial ON svid (serial);
CREATE INDEX svid_idx ON svid USING brin (log_idx) WITH (pages_per_range = 32, autosummarize = on);

CREATE TABLE drift_event (
    recorded_at  timestamptz NOT NULL,
    log_id       text NOT NULL,
    log_idx      bigint NOT NULL,
    ord          smallint NOT NULL,
    record_id    uuid NOT NULL,
    node_id      text NOT NULL,
    zone         text NOT NULL, -- of the node at that time
    kind         text NOT NULL,
    before_value text NOT NULL,
    after_value  text NOT NULL
) PARTITION BY RANGE (recorded_at);
-- One for each filter, all in the order of the pages.
CREATE INDEX drift_event_idx ON drift_event (log_idx DESC, ord);
CREATE INDEX drift_event_node ON drift_event (node_id, log_idx DESC, ord);
CREATE INDEX drift_event_kind ON drift_event (kind, log_idx DESC, ord);
CREATE INDEX drift_event_zone ON drift_event (zone, log_idx DESC, ord);

-- Refusals of strangers and repeats: counts, not history.
CREATE TABLE refusal_hourly (
    hour    timestamptz NOT NULL,
    code    text NOT NULL,
    node_id text NOT NULL,
    n       bigint NOT NULL CHECK (n > 0),
    PRIMARY KEY (hour, code, node_id)
);

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['attestation', 'evidence', 'evidence_part', 'svid', 'drift_event'] LOOP
        EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON %I FOR EACH ROW EXECUTE FUNCTION refuse_change()', t);
        EXECUTE format('CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON %I EXECUTE FUNCTION refuse_change()', t);
    END LOOP;
END $$;

-- Bodies are JSON of two to three KiB; lz4 compresses them at a fifth of the
-- price of the default. Builds without it keep the default.
DO $$
BEGIN
    ALTER TABLE attestation ALTER COLUMN body SET COMPRESSION lz4;
    ALTER TABLE evidence ALTER COLUMN bytes SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    NULL;
END $$;

GRANT SELECT ON attestation, evidence, evidence_part, svid, drift_event, refusal_hourly TO zb_writer, zb_reader;
GRANT INSERT ON attestation, evidence, evidence_part, svid, drift_event, refusal_hourly TO zb_writer;
GRANT UPDATE ON refusal_hourly TO zb_writer;
