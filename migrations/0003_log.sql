-- The Merkle log over the history. The row of log_head is its lock: who holds it
-- gives the next indices.

CREATE TABLE log_head (
    log_id      text PRIMARY KEY,
    size        bigint NOT NULL CHECK (size >= 0),
    frontier    bytea NOT NULL,     -- compact range [0, size)
    recorded_at timestamptz NOT NULL -- of the last record; never goes back
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

CREATE FUNCTION log_head_fence() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR NEW.log_id <> OLD.log_id OR NEW.size < OLD.size OR NEW.recorded_at < OLD.recorded_at THEN
        RAISE EXCEPTION 'the log only grows' USING ERRCODE = '55000';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER log_head_fence BEFORE UPDATE OR DELETE ON log_head FOR EACH ROW EXECUTE FUNCTION log_head_fence();

-- The last batch of every writer process: tells after a lost connection whether
-- it was committed.
CREATE TABLE log_writer (
    log_id     text NOT NULL,
    writer     text NOT NULL,
    seq        bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (log_id, writer)
) WITH (fillfactor = 50);

-- Entries that do not fill a tile yet, one row a batch, never across a tile's
-- bound. They go once the tile is written, and not before.
CREATE TABLE log_entry (
    log_id    text NOT NULL,
    first_idx bigint NOT NULL CHECK (first_idx >= 0),
    entries   bytea NOT NULL CHECK (octet_length(entries) % 57 = 0 AND octet_length(entries) > 0),
    PRIMARY KEY (log_id, first_idx)
);

-- Level 0: 256 leaf hashes of 32 bytes. Level -1: the 256 entries of 57 bytes.
CREATE TABLE log_tile (
    log_id text NOT NULL,
    level  smallint NOT NULL,
    n      bigint NOT NULL CHECK (n >= 0),
    data   bytea NOT NULL CHECK (octet_length(data) = CASE level WHEN -1 THEN 14592 ELSE 8192 END),
    PRIMARY KEY (log_id, level, n)
);
-- Hashes do not compress.
ALTER TABLE log_tile ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE FUNCTION log_entry_fence() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND EXISTS (
        SELECT 1 FROM log_tile t WHERE t.log_id = OLD.log_id AND t.level = -1 AND t.n = OLD.first_idx / 256
            AND substr(t.data, (OLD.first_idx % 256)::int * 57 + 1, octet_length(OLD.entries)) = OLD.entries) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION '% on log_entry: these entries are in no tile yet', TG_OP USING ERRCODE = '55000';
END $$;
CREATE TRIGGER log_entry_fence BEFORE UPDATE OR DELETE ON log_entry FOR EACH ROW EXECUTE FUNCTION log_entry_fence();

CREATE TABLE checkpoint (
    log_id    text NOT NULL,
    size      bigint NOT NULL CHECK (size >= 0),
    root      bytea NOT NULL CHECK (octet_length(root) = 32),
    note      text NOT NULL,
    signed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (log_id, size)
);

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['log_tile', 'checkpoint'] LOOP
        EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON %I FOR EACH ROW EXECUTE FUNCTION refuse_change()', t);
    END LOOP;
    FOREACH t IN ARRAY ARRAY['log_head', 'log_entry', 'log_tile', 'checkpoint'] LOOP
        EXECUTE format('CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON %I EXECUTE FUNCTION refuse_change()', t);
    END LOOP;
END $$;

GRANT SELECT ON log_head, log_writer, log_entry, log_tile, checkpoint TO zb_writer, zb_reader;
GRANT INSERT ON log_head, log_writer, log_entry, log_tile, checkpoint TO zb_writer;
GRANT UPDATE ON log_head, log_writer TO zb_writer;
GRANT DELETE ON log_writer, log_entry TO zb_writer;
