package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"autoheal.dev/autoheal/internal/journal"
)

// Compact implements journal.Store. Kept are the records of incidents that go on, or whose last record is not before
// keep. The snapshot and the deletions are one transaction.
func (s *Store) Compact(ctx context.Context, snapshot journal.Record, keep time.Time) error {
	if err := s.compact(ctx, snapshot, keep); err != nil {
		return err
	}
	s.appended([]journal.Record{snapshot})
	// The snapshot is durable; that the file does not get smaller now is no reason to stop.
	if err := s.db.Shrink(ctx); err != nil {
		s.log.LogAttrs(ctx, slog.LevelWarn, "journal compacted, but its file not made smaller", slog.Any("error", err))
	}
	return nil
}

func (s *Store) compact(ctx context.Context, snapshot journal.Record, keep time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usableLocked(); err != nil {
		return err
	}
	if err := s.head.CheckSnapshot(snapshot); err != nil {
		return s.stopLocked(err)
	}
	step := []journal.Record{snapshot}
	rows, err := encode(step)
	if err != nil {
		return s.stopLocked(err)
	}
	var left int64
	err = s.db.Write(ctx, func(tx *sql.Tx) error {
		if err := drop(tx, rows[0].Seq, keep); err != nil {
			return err
		}
		if err := insert(tx, rows); err != nil {
			return err
		}
		left, err = stored(tx)
		return err
	})
	if err != nil {
		return s.stopLocked(err)
	}
	s.head = s.head.After(step)
	s.bytes = left
	return nil
}

// drop deletes what the snapshot before replaces.
func drop(tx *sql.Tx, before int64, keep time.Time) error {
	ended, err := endedIncidents(tx, keep)
	if err != nil {
		return err
	}
	if _, err := tx.Exec("DELETE FROM journal WHERE incident = '' AND seq < ?", before); err != nil {
		return err
	}
	st, err := tx.Prepare("DELETE FROM journal WHERE incident <> '' AND incident = ? AND seq < ?")
	if err != nil {
		return err
	}
	defer st.Close()
	for _, id := range ended {
		if _, err := st.Exec(id, before); err != nil {
			return err
		}
	}
	return nil
}

// endedIncidents returns the incidents that are over and whose last record is before keep.
func endedIncidents(tx *sql.Tx, keep time.Time) ([]string, error) {
	old, err := oldIncidents(tx, keep)
	if err != nil {
		return nil, err
	}
	types := journal.LifeTypes()
	marks := strings.TrimSuffix(strings.Repeat("?, ", len(types)), ", ")
	st, err := tx.Prepare("SELECT " + columns + " FROM journal WHERE incident <> '' AND incident = ? AND type IN (" + marks + ") ORDER BY seq")
	if err != nil {
		return nil, err
	}
	defer st.Close()
	var ended []string
	for _, id := range old {
		args := []any{id}
		for _, t := range types {
			args = append(args, string(t))
		}
		life, err := lifeOf(st, args)
		if err != nil {
			return nil, err
		}
		if !life.Open() {
			ended = append(ended, id)
		}
	}
	return ended, nil
}

func lifeOf(st *sql.Stmt, args []any) (life journal.Life, err error) {
	rows, err := st.Query(args...)
	if err != nil {
		return life, err
	}
	defer rows.Close()
	for rows.Next() {
		rec, err := next(&row{}, rows)
		if err != nil {
			return life, err
		}
		life = life.Next(rec)
	}
	return life, rows.Err()
}

func oldIncidents(tx *sql.Tx, keep time.Time) ([]string, error) {
	rows, err := tx.Query("SELECT incident FROM journal WHERE incident <> '' GROUP BY incident HAVING max(at) < ? ORDER BY incident",
		keep.UTC().Format(timeLayout))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var ids []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// stored measures the records as row.size does.
func stored(tx *sql.Tx) (int64, error) {
	var n int64
	err := tx.QueryRow("SELECT coalesce(sum(length(CAST(at AS BLOB)) + length(CAST(type AS BLOB)) + length(CAST(incident AS BLOB)) + length(data) + ?), 0) FROM journal",
		rowOverhead).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("measure journal: %w", err)
	}
	return n, nil
}
