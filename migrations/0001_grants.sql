-- What grants something, and the state of nodes. The rows of node, node_state,
-- admission, join_token, operator and key carry an HMAC under a key that the
-- database does not have: whoever writes them here grants nothing.

CREATE TABLE schema_file (
    version    bigint PRIMARY KEY,
    name       text NOT NULL,
    sha256     bytea NOT NULL CHECK (octet_length(sha256) = 32),
    applied_at timestamptz NOT NULL DEFAULT now()
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on %: this table is append-only', TG_OP, TG_TABLE_NAME USING ERRCODE = '55000';
END $$;

CREATE TABLE node (
    node_id      text PRIMARY KEY,
    root_kind    text NOT NULL,
    root_hash    bytea NOT NULL CONSTRAINT node_root UNIQUE CHECK (octet_length(root_hash) = 32),
    ek_public    bytea NOT NULL,
    ak_public    bytea NOT NULL,
    ak_name      bytea NOT NULL CONSTRAINT node_ak UNIQUE,
    manufacturer text NOT NULL,
    tpm_model    text NOT NULL,
    tpm_version  text NOT NULL,
    ek_expired   boolean NOT NULL,
    admitted_by  text NOT NULL,
    admission    uuid NOT NULL,
    machine      text NOT NULL,
    groups       text[] NOT NULL,
    status       text NOT NULL CHECK (status IN ('active', 'pending', 'disabled', 'fork_suspected')),
    ak_approved  boolean NOT NULL,
    created_at   timestamptz NOT NULL,
    mac          bytea NOT NULL CHECK (octet_length(mac) = 32)
);
CREATE INDEX node_admission ON node (admission);
-- One machine, one active node: two EKs of one admission that enrol at once, or
-- an operator who approves both, meet here. A join token makes one node ever.
CREATE UNIQUE INDEX node_admission_active ON node (admission) WHERE status = 'active' AND admitted_by IN ('inventory', 'operator', 'lab');
CREATE UNIQUE INDEX node_admission_token ON node (admission) WHERE admitted_by = 'join_token';

-- A node never changes its root of trust, and never goes away.
CREATE FUNCTION node_fence() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'a node is disabled, never deleted' USING ERRCODE = '55000';
    END IF;
    IF (NEW.node_id, NEW.root_kind, NEW.root_hash, NEW.created_at)
        IS DISTINCT FROM (OLD.node_id, OLD.root_kind, OLD.root_hash, OLD.created_at) THEN
        RAISE EXCEPTION 'a node keeps its root of trust' USING ERRCODE = '23514', CONSTRAINT = 'node_identity';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER node_fence BEFORE UPDATE OR DELETE ON node FOR EACH ROW EXECUTE FUNCTION node_fence();

-- What every renewal changes stands behind what it seldom does: an update then
-- writes the changed end of its row to the WAL, and not the PCRs.
CREATE TABLE node_state (
    node_id         text PRIMARY KEY REFERENCES node,
    rebaseline      boolean NOT NULL,
    has_clock       boolean NOT NULL,
    tier            integer NOT NULL,
    reset_count     bigint NOT NULL,
    restart_count   bigint NOT NULL,
    firmware        bigint NOT NULL, -- unsigned 64 bit, as two's complement
    policy_version  bigint NOT NULL,
    repeats         bigint NOT NULL,
    zone            text NOT NULL,
    verdict         text NOT NULL,
    reason          text NOT NULL,
    secure_boot     text NOT NULL,
    pcrs            text,
    event_log       bytea,
    seen            text,
    ima             text, -- how far the measurement list of the boot was attested
    version         bigint NOT NULL CHECK (version > 0),
    clock           bigint NOT NULL, -- unsigned 64 bit, as two's complement
    last            uuid,
    confirmed       uuid,
    attested_at     timestamptz,
    fresh_until     timestamptz,
    expires_at      timestamptz,
    last_attempt_at timestamptz,
    last_ok_at      timestamptz,
    reboot_until    timestamptz, -- end of an announced reboot
    mac             bytea NOT NULL CHECK (octet_length(mac) = 32)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

CREATE TABLE admission (
    admission_id uuid PRIMARY KEY,
    kind         text NOT NULL,
    machine      text NOT NULL,
    groups       text[] NOT NULL,
    ek_hashes    bytea[] NOT NULL,
    granted_by   text NOT NULL,
    revoked      boolean NOT NULL,
    created_at   timestamptz NOT NULL,
    change_seq   bigint NOT NULL, -- log index of the record of the last change, plus one
    mac          bytea NOT NULL CHECK (octet_length(mac) = 32)
);
CREATE INDEX admission_ek ON admission USING gin (ek_hashes);
CREATE INDEX admission_seq ON admission (change_seq);

-- An admission can only be taken back.
CREATE FUNCTION admission_fence() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR OLD.revoked
        OR (NEW.admission_id, NEW.kind, NEW.machine, NEW.groups, NEW.ek_hashes, NEW.granted_by, NEW.created_at)
        IS DISTINCT FROM (OLD.admission_id, OLD.kind, OLD.machine, OLD.groups, OLD.ek_hashes, OLD.granted_by, OLD.created_at) THEN
        RAISE EXCEPTION 'an admission can only be revoked' USING ERRCODE = '55000';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER admission_fence BEFORE UPDATE OR DELETE ON admission FOR EACH ROW EXECUTE FUNCTION admission_fence();

CREATE TABLE join_token (
    token_id    uuid PRIMARY KEY,
    secret_hash bytea NOT NULL UNIQUE CHECK (octet_length(secret_hash) = 32),
    machine     text NOT NULL,
    groups      text[] NOT NULL,
    granted_by  text NOT NULL,
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    used_by     text,
    mac         bytea NOT NULL CHECK (octet_length(mac) = 32)
);

-- A join token can only be used, once.
CREATE FUNCTION join_token_fence() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR OLD.used_by IS NOT NULL OR NEW.used_by IS NULL
        OR (NEW.token_id, NEW.secret_hash, NEW.machine, NEW.groups, NEW.granted_by, NEW.created_at, NEW.expires_at)
        IS DISTINCT FROM (OLD.token_id, OLD.secret_hash, OLD.machine, OLD.groups, OLD.granted_by, OLD.created_at, OLD.expires_at) THEN
        RAISE EXCEPTION 'a join token can only be used once' USING ERRCODE = '55000';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER join_token_fence BEFORE UPDATE OR DELETE ON join_token FOR EACH ROW EXECUTE FUNCTION join_token_fence();

CREATE TABLE pending (
    ek_hash    bytea PRIMARY KEY CHECK (octet_length(ek_hash) = 32),
    ek_public  bytea NOT NULL,
    first_seen timestamptz NOT NULL,
    last_seen  timestamptz NOT NULL
);

CREATE TABLE operator (
    operator_id uuid PRIMARY KEY,
    name        text NOT NULL,
    role        text NOT NULL CHECK (role IN ('auditor', 'operator')),
    spki_sha256 bytea NOT NULL CONSTRAINT operator_spki UNIQUE CHECK (octet_length(spki_sha256) = 32),
    granted_by  text NOT NULL,
    revoked     boolean NOT NULL,
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL CHECK (expires_at > created_at),
    mac         bytea NOT NULL CHECK (octet_length(mac) = 32)
);
CREATE UNIQUE INDEX operator_name ON operator (name) WHERE NOT revoked;
CREATE INDEX operator_end ON operator (expires_at);

-- A role can only be taken back.
CREATE FUNCTION operator_fence() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR OLD.revoked OR NOT NEW.revoked
        OR (NEW.operator_id, NEW.name, NEW.role, NEW.spki_sha256, NEW.granted_by, NEW.created_at, NEW.expires_at)
        IS DISTINCT FROM (OLD.operator_id, OLD.name, OLD.role, OLD.spki_sha256, OLD.granted_by, OLD.created_at, OLD.expires_at) THEN
        RAISE EXCEPTION 'a role can only be revoked' USING ERRCODE = '55000';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER operator_fence BEFORE UPDATE OR DELETE ON operator FOR EACH ROW EXECUTE FUNCTION operator_fence();

CREATE TABLE key (
    key_id     text PRIMARY KEY,
    kind       text NOT NULL,
    replica    text NOT NULL,
    der        bytea NOT NULL,
    not_before timestamptz NOT NULL,
    not_after  timestamptz NOT NULL,
    mac        bytea NOT NULL CHECK (octet_length(mac) = 32)
);
CREATE INDEX key_end ON key (kind, not_after);
CREATE TRIGGER key_fence BEFORE UPDATE OR DELETE ON key FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TABLE object (
    kind    text NOT NULL,
    digest  bytea NOT NULL CHECK (octet_length(digest) = 32),
    version bigint NOT NULL CHECK (version > 0),
    bytes   bytea NOT NULL,
    PRIMARY KEY (kind, digest),
    UNIQUE (kind, version)
);
CREATE TRIGGER object_fence BEFORE UPDATE OR DELETE ON object FOR EACH ROW EXECUTE FUNCTION refuse_change();

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['node', 'node_state', 'admission', 'join_token', 'operator', 'key', 'object'] LOOP
        EXECUTE format('CREATE TRIGGER %I BEFORE TRUNCATE ON %I EXECUTE FUNCTION refuse_change()', t || '_truncate', t);
    END LOOP;
END $$;

GRANT SELECT ON schema_file, node, node_state, admission, join_token, pending, operator, key, object TO zb_writer, zb_reader;
GRANT INSERT ON node, node_state, admission, join_token, pending, operator, key, object TO zb_writer;
GRANT UPDATE ON node, node_state, admission, join_token, pending, operator TO zb_writer;
GRANT DELETE ON pending TO zb_writer;
