-- +goose Up
-- One row a record. part counts from 0 within the records of a step, parts is their number: any undamaged row of a step
-- tells how far the step reaches. crc covers all other columns; a program that computes it otherwise brings a migration.
CREATE TABLE journal (
    seq      INTEGER PRIMARY KEY,
    step     INTEGER NOT NULL,
    part     INTEGER NOT NULL,
    parts    INTEGER NOT NULL,
    v        INTEGER NOT NULL,
    epoch    INTEGER NOT NULL,
    at       TEXT    NOT NULL,
    type     TEXT    NOT NULL,
    incident TEXT    NOT NULL,
    data     BLOB    NOT NULL,
    crc      INTEGER NOT NULL
) STRICT;
CREATE INDEX journal_incident ON journal (incident, seq) WHERE incident <> '';
CREATE INDEX journal_snapshot ON journal (seq) WHERE type = 'snapshot';

-- What a repair took out of the journal, as it was found. Nothing reads it but people.
CREATE TABLE journal_cut (
    cut      INTEGER NOT NULL,
    seq      INTEGER NOT NULL,
    step     INTEGER NOT NULL,
    part     INTEGER NOT NULL,
    parts    INTEGER NOT NULL,
    v        INTEGER NOT NULL,
    epoch    INTEGER NOT NULL,
    at       TEXT    NOT NULL,
    type     TEXT    NOT NULL,
    incident TEXT    NOT NULL,
    data     BLOB    NOT NULL,
    crc      INTEGER NOT NULL,
    PRIMARY KEY (cut, seq)
) STRICT;

-- Written by Recover to learn whether the disk takes writes again.
CREATE TABLE journal_probe (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    n  INTEGER NOT NULL
) STRICT;
INSERT INTO journal_probe (id, n) VALUES (1, 0);
