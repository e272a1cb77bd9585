package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"autoheal.dev/autoheal/internal/journal"
)

// maxProblems bounds what a report lists.
const maxProblems = 20

// finding is what reading the whole journal showed.
type finding struct {
	head     journal.Head // of the last whole step before the first damage
	last     int64        // the last seq in the table
	records  int64
	bytes    int64
	snapshot int64 // the seq of the last readable snapshot, 0 without one

	problems []string
	total    int64   // problems found, also those not listed
	cutAt    int64   // the first seq of the first damaged step behind the snapshot; 0: none
	behind   int64   // the first seq of a whole step that follows that damage; 0: none
	old      []int64 // damaged rows before the snapshot: kept for post-mortems only
	missing  string  // records are missing where none may be
}

func (f *finding) damaged() bool { return f.total > 0 }

func (f *finding) problem(format string, args ...any) {
	f.total++
	if len(f.problems) < maxProblems {
		f.problems = append(f.problems, fmt.Sprintf(format, args...))
	}
}

const repairHint = "see what can be saved with autoheal journal repair --dry-run, or restore a backup"

// ErrDamaged means that the journal is damaged in a way that opening does not repair.
var ErrDamaged = errors.New("the journal is damaged")

// refusal tells why the damage is more than a tail that can be cut; nil when it is not.
func (f *finding) refusal() error {
	switch {
	case f.missing != "":
		return fmt.Errorf("%w: %s: %s", ErrDamaged, f.missing, repairHint)
	case len(f.old) > 0:
		return fmt.Errorf("%w in the middle: %s: %s", ErrDamaged, f.problems[0], repairHint)
	case f.behind > 0:
		return fmt.Errorf("%w in the middle: %s, but record %d behind it is whole: %s", ErrDamaged, f.problems[0], f.behind, repairHint)
	}
	return nil
}

// scan reads and decodes every record. Damage is in the finding; the error is about reading itself, and about records of
// a newer program.
func scan(ctx context.Context, db *sql.DB) (finding, error) {
	// One transaction, so that the snapshot and the rows belong together.
	tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return finding{}, fmt.Errorf("read journal: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	f := finding{}
	if f.snapshot, err = lastSnapshot(ctx, tx); err != nil {
		return finding{}, err
	}
	rows, err := tx.QueryContext(ctx, "SELECT "+columns+" FROM journal ORDER BY seq")
	if err != nil {
		return finding{}, fmt.Errorf("read journal: %w", err)
	}
	defer rows.Close()
	w := walk{f: &f}
	var r row
	for rows.Next() {
		if err := r.scan(rows); err != nil {
			return finding{}, fmt.Errorf("read journal behind record %d: %w", f.last, err)
		}
		if err := w.next(&r); err != nil {
			return finding{}, err
		}
	}
	if err := rows.Err(); err != nil {
		return finding{}, fmt.Errorf("read journal behind record %d: %w", f.last, err)
	}
	w.end()
	return f, nil
}

// lastSnapshot returns the seq of the newest snapshot that can be read.
func lastSnapshot(ctx context.Context, tx *sql.Tx) (int64, error) {
	rows, err := tx.QueryContext(ctx, "SELECT "+columns+" FROM journal WHERE type = 'snapshot' ORDER BY seq DESC")
	if err != nil {
		return 0, fmt.Errorf("read snapshots: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var r row
		if err := r.scan(rows); err != nil {
			return 0, fmt.Errorf("read snapshots: %w", err)
		}
		switch _, err := r.record(); {
		case err == nil:
			return r.Seq, nil
		case errors.Is(err, errNewer):
			return 0, fmt.Errorf("record %d: %w", r.Seq, err)
		}
	}
	return 0, rows.Err()
}

// walk follows the rows in order. Behind the snapshot every step must be whole and no seq may be missing; before it lie
// single records, kept for post-mortems.
type walk struct {
	f     *finding
	step  int64 // the step under way, when start > 0
	start int64 // its first seq; 0: no step is under way
	part  int64 // the part expected next
	live  bool  // the replayed range has begun
}

func (w *walk) next(r *row) error {
	f := w.f
	_, err := r.record()
	if errors.Is(err, errNewer) {
		return fmt.Errorf("record %d: %w", r.Seq, err)
	}
	defer func() {
		f.last = r.Seq
		f.records++
		f.bytes += r.size()
	}()
	if r.Seq < f.snapshot {
		if err != nil {
			f.problem("record %d: %v", r.Seq, err)
			f.old = append(f.old, r.Seq)
		}
		return nil
	}
	w.gap(r.Seq)
	if err != nil {
		f.problem("record %d: %v", r.Seq, err)
		w.breaks(r.Seq)
		return nil
	}
	w.whole(r)
	return nil
}

// gap looks for records that are missing: before the first one without a snapshot, and between two behind it.
func (w *walk) gap(seq int64) {
	f := w.f
	want := f.last + 1
	if !w.live {
		w.live = true
		if want = f.snapshot; want == 0 {
			want = 1
		}
	}
	if seq == want || f.missing != "" {
		return
	}
	f.missing = fmt.Sprintf("the records %s are missing", seqs(want, seq-1))
	if f.snapshot == 0 {
		f.missing += " and no snapshot that replaces them can be read"
	}
	f.problem("%s", f.missing)
	w.breaks(want)
}

// breaks ends the step under way as damaged, from its first record on.
func (w *walk) breaks(seq int64) {
	if w.start > 0 {
		seq = w.start
	}
	w.start = 0
	if w.f.cutAt == 0 || seq < w.f.cutAt {
		w.f.cutAt = seq
	}
}

// whole takes a readable row into its step, and the step into the head once it is complete.
func (w *walk) whole(r *row) {
	f := w.f
	switch {
	case w.start > 0 && (r.Step != w.step || r.Part != w.part):
		f.problem("record %d: step %d before it is not whole", r.Seq, w.step)
		w.breaks(r.Seq)
	case w.start == 0 && r.Part > 0 && f.cutAt == 0:
		f.problem("record %d: the beginning of its step %d is not there", r.Seq, r.Step)
		w.breaks(r.Seq)
	}
	if w.start == 0 {
		if r.Part > 0 { // the rest of a step whose beginning is damaged
			return
		}
		w.step, w.start, w.part = r.Step, r.Seq, 0
	}
	w.part++
	if w.part < r.Parts {
		return
	}
	if f.cutAt > 0 {
		if f.behind == 0 {
			f.behind = w.start
		}
	} else {
		f.head = journal.Head{Seq: uint64(r.Seq), Step: uint64(r.Step), Epoch: uint64(r.Epoch)}
	}
	w.start = 0
}

func (w *walk) end() {
	if w.start > 0 {
		w.f.problem("the end of step %d is not there", w.step)
		w.breaks(w.start)
	}
	if !w.live && w.f.records > 0 {
		w.f.problem("no record can be replayed")
	}
}

// seqs names a range of records.
func seqs(from, to int64) string {
	if from >= to {
		return fmt.Sprintf("record %d", from)
	}
	return fmt.Sprintf("records %d to %d", from, to)
}
