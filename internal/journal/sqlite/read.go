package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"iter"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
)

// Replay implements journal.Store.
func (s *Store) Replay(ctx context.Context) iter.Seq2[journal.Record, error] {
	return s.records(ctx, "WHERE seq >= (SELECT coalesce(max(seq), 0) FROM journal WHERE type = 'snapshot')")
}

// History implements journal.Store.
func (s *Store) History(ctx context.Context, incident autoheal.IncidentID) iter.Seq2[journal.Record, error] {
	if incident == "" {
		return s.records(ctx, "")
	}
	return s.records(ctx, "WHERE incident <> '' AND incident = ?", string(incident))
}

// records yields the rows that where selects, in one read transaction. A record that cannot be read ends it: skipping
// one would be a lie about the state.
func (s *Store) records(ctx context.Context, where string, args ...any) iter.Seq2[journal.Record, error] {
	return func(yield func(journal.Record, error) bool) {
		rows, err := s.db.Read().QueryContext(ctx, "SELECT "+columns+" FROM journal "+where+" ORDER BY seq", args...)
		if err != nil {
			yield(journal.Record{}, fmt.Errorf("read journal: %w", err))
			return
		}
		defer rows.Close()
		for rows.Next() {
			rec, err := next(&row{}, rows)
			if !yield(rec, err) || err != nil {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(journal.Record{}, fmt.Errorf("read journal: %w", err))
		}
	}
}

func next(r *row, rows *sql.Rows) (journal.Record, error) {
	if err := r.scan(rows); err != nil {
		return journal.Record{}, fmt.Errorf("read journal: %w", err)
	}
	rec, err := r.record()
	if err != nil {
		return journal.Record{}, fmt.Errorf("read record %d: %w", r.Seq, err)
	}
	return rec, nil
}
