package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"

	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/store"
)

// Report says what Repair found and did, or would do.
type Report struct {
	Records  int64    `json:"records"`
	Last     uint64   `json:"last"`     // the last record in the file
	Whole    uint64   `json:"whole"`    // the last record before the first damage
	Problems []string `json:"problems"` // at most 20
	Total    int64    `json:"total"`    // problems found
	// Lost names the records that the repair takes out: the damaged ones, and those behind them, which cannot be applied
	// without them. They stay in the table journal_cut.
	Lost     string `json:"lost"`
	Cut      int64  `json:"cut"` // under which number they are kept there; 0 in a dry run
	Repaired bool   `json:"repaired"`
	Advice   string `json:"advice"`
}

// Repair examines the journal and, unless dryRun, takes out what is damaged and what cannot be applied without it, so
// that it opens again. db may be opened with SkipCheck. A journal that no cut can save, and one of a newer program, end
// in an error, with the report as far as it goes.
func Repair(ctx context.Context, db *store.DB, dryRun bool) (Report, error) {
	if !dryRun {
		if err := migrate(ctx, db); err != nil {
			return Report{}, err
		}
	}
	f, err := scan(ctx, db.Read())
	if err != nil {
		return Report{Advice: "the file itself cannot be read: restore a backup"}, fmt.Errorf("repair journal in %s: %w", db.Path(), err)
	}
	rep := Report{Records: f.records, Last: uint64(f.last), Whole: f.head.Seq, Problems: f.problems, Total: f.total}
	if !f.damaged() {
		rep.Advice = "nothing to repair"
		return rep, nil
	}
	if f.snapshot == 0 && f.missing != "" {
		rep.Advice = "restore a backup: records are missing, and no snapshot that replaces them can be read"
		return rep, fmt.Errorf("repair journal in %s: %w beyond repair: %s", db.Path(), ErrDamaged, f.problems[0])
	}
	rep.Lost = f.lost()
	if dryRun {
		rep.Advice = "run autoheal journal repair to take out " + rep.Lost
		return rep, nil
	}
	if rep.Cut, err = takeOut(ctx, db, f.old, f.cutAt); err != nil {
		return rep, fmt.Errorf("repair journal in %s: %w", db.Path(), err)
	}
	if f, err = scan(ctx, db.Read()); err == nil && f.damaged() {
		err = errors.New(f.problems[0])
	}
	if err != nil {
		return rep, fmt.Errorf("repair journal in %s: damaged after the repair: %w", db.Path(), err)
	}
	rep.Repaired = true
	rep.Advice = "actions of the lost records may have been carried out: check the cluster before switching the healer on"
	return rep, nil
}

func (f *finding) lost() string {
	switch {
	case len(f.old) == 0:
		return seqs(f.cutAt, f.last)
	case f.cutAt == 0:
		return fmt.Sprintf("%d records kept for post-mortems", len(f.old))
	}
	return fmt.Sprintf("%s and %d records kept for post-mortems", seqs(f.cutAt, f.last), len(f.old))
}

func cutFrom(ctx context.Context, db *store.DB, from int64) (int64, error) {
	return takeOut(ctx, db, nil, from)
}

// takeOut moves the given records, and all from the given one on unless it is 0, to journal_cut.
func takeOut(ctx context.Context, db *store.DB, single []int64, from int64) (cut int64, err error) {
	err = db.Write(ctx, func(tx *sql.Tx) error {
		if err := tx.QueryRow("SELECT coalesce(max(cut), 0) + 1 FROM journal_cut").Scan(&cut); err != nil {
			return err
		}
		if from > 0 {
			if err := move(tx, cut, "seq >= ?", from); err != nil {
				return err
			}
		}
		for _, seq := range single {
			if err := move(tx, cut, "seq = ?", seq); err != nil {
				return err
			}
		}
		return nil
	})
	return cut, err
}

func move(tx *sql.Tx, cut int64, where string, seq int64) error {
	_, err := tx.Exec("INSERT INTO journal_cut (cut, "+columns+") SELECT ?, "+columns+" FROM journal WHERE "+where, cut, seq)
	if err != nil {
		return err
	}
	_, err = tx.Exec("DELETE FROM journal WHERE "+where, seq)
	return err
}

// Row is a record as it stands in the file, readable or not.
type Row struct {
	Seq      uint64          `json:"seq"`
	Step     uint64          `json:"step"`
	Epoch    uint64          `json:"epoch"`
	V        int             `json:"v"`
	At       string          `json:"at"`
	Type     journal.Type    `json:"type"`
	Incident string          `json:"incident,omitempty"`
	Data     json.RawMessage `json:"data"`
	Problem  string          `json:"problem,omitempty"` // why the journal does not open because of it
}

// Inspect yields the records from the given Seq on as they stand in the file, also damaged ones and those of a newer
// program. It changes nothing; db may be opened read-only beside a running healer.
func Inspect(ctx context.Context, db *store.DB, from uint64) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		rows, err := db.Read().QueryContext(ctx, "SELECT "+columns+" FROM journal WHERE seq >= ? ORDER BY seq", int64(from))
		if err != nil {
			yield(Row{}, fmt.Errorf("read journal: %w", err))
			return
		}
		defer rows.Close()
		for rows.Next() {
			var r row
			if err := r.scan(rows); err != nil {
				yield(Row{}, fmt.Errorf("read journal: %w", err))
				return
			}
			if !yield(show(&r), nil) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(Row{}, fmt.Errorf("read journal: %w", err))
		}
	}
}

func show(r *row) Row {
	out := Row{
		Seq: uint64(r.Seq), Step: uint64(r.Step), Epoch: uint64(r.Epoch), V: int(r.V), At: r.At,
		Type: journal.Type(r.Type), Incident: r.Incident, Data: slices.Clone(r.Data),
	}
	if _, err := r.record(); err != nil {
		out.Problem = err.Error()
	}
	if !json.Valid(out.Data) { // damaged bytes are shown as a string, so that the output stays JSON
		out.Data, _ = json.Marshal(string(r.Data))
	}
	return out
}
