-- +goose Up
-- Captures are asked for by incident, and bounded by their size, too.
ALTER TABLE fleet_evidence ADD COLUMN incident TEXT NOT NULL DEFAULT '';
ALTER TABLE fleet_evidence ADD COLUMN target TEXT NOT NULL DEFAULT '{}';
ALTER TABLE fleet_evidence ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
CREATE INDEX fleet_evidence_incident ON fleet_evidence (incident, seq);
-- What bounds the size adds bytes up without reading the texts before them.
CREATE INDEX fleet_evidence_bytes ON fleet_evidence (seq, bytes);
