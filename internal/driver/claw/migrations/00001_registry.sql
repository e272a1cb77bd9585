-- +goose Up
-- The registry of the fleet: what is wanted and what was decided. Times are nanoseconds since 1970, 0 = none; lists and
-- objects are JSON.
CREATE TABLE nodes (
    id          TEXT PRIMARY KEY,
    device_id   TEXT NOT NULL UNIQUE, -- a name is bound to its key at the first approval
    name        TEXT NOT NULL,
    labels      TEXT NOT NULL,
    marks       TEXT NOT NULL,
    gpu_marks   TEXT NOT NULL,
    drain       TEXT NOT NULL,
    status      TEXT NOT NULL,        -- the agent's last description, for the time until it answers again
    boot_id     TEXT NOT NULL,
    approved_at INTEGER NOT NULL
) STRICT;

CREATE TABLE workloads (
    id         TEXT PRIMARY KEY,
    action     TEXT NOT NULL UNIQUE,  -- the submit that made it
    name       TEXT NOT NULL,
    spec       TEXT NOT NULL,
    desired    TEXT NOT NULL,
    attempt    INTEGER NOT NULL,
    marks      TEXT NOT NULL,
    parent     TEXT NOT NULL,
    replicas   INTEGER NOT NULL,      -- of a parent; -1 = not scaled: it runs by itself
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE attempts (
    workload   TEXT NOT NULL REFERENCES workloads (id) ON DELETE CASCADE,
    n          INTEGER NOT NULL,
    node       TEXT NOT NULL,
    gpus       TEXT NOT NULL,
    memory_mb  INTEGER NOT NULL,
    action     TEXT NOT NULL,
    state      TEXT NOT NULL,
    cause      TEXT NOT NULL,         -- submit, start, drain, shutdown
    hedge      INTEGER NOT NULL,
    wishes     TEXT NOT NULL,         -- where it may not or should go
    stop       TEXT NOT NULL,         -- a stop that was asked for and is not seen done
    generation TEXT NOT NULL,
    created    INTEGER NOT NULL,
    started    INTEGER NOT NULL,
    ended      INTEGER NOT NULL,
    exit       TEXT NOT NULL,
    detail     TEXT NOT NULL,
    PRIMARY KEY (workload, n)
) STRICT;

CREATE TABLE nominations (
    workload TEXT PRIMARY KEY,
    node     TEXT NOT NULL,
    gpus     TEXT NOT NULL,
    "for"    TEXT NOT NULL,           -- the action that nominated
    until    INTEGER NOT NULL
) STRICT;

-- Which actions were accepted, so that the same one never acts twice. The oldest are dropped.
CREATE TABLE fleet_actions (
    seq  INTEGER PRIMARY KEY,
    id   TEXT NOT NULL UNIQUE,
    verb TEXT NOT NULL,
    ref  TEXT NOT NULL,
    at   INTEGER NOT NULL
) STRICT;

CREATE TABLE fleet_evidence (
    seq    INTEGER PRIMARY KEY,
    action TEXT NOT NULL UNIQUE,
    node   TEXT NOT NULL,
    texts  TEXT NOT NULL,
    at     INTEGER NOT NULL
) STRICT;

CREATE TABLE fleet_meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;
