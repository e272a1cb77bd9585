// Package sqlite owns the durable journal: the journal.Store in a table of the state database.
//
// The wiring opens it, and the commands that show and repair a journal use Inspect and Repair. It imports the journal's
// records and internal/store, and never decides what a record means, never skips one that it cannot read, and never
// reads a clock.
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"

	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Component is the journal's name for store.DB.Migrate.
const Component = "journal"

// Options of Open. The zero value is good.
type Options struct {
	// AfterAppend is called with the first and last Seq of every Append and Compact, after the commit is durable and before
	// they return: the place where a crash test ends the process.
	AfterAppend func(first, last uint64)
	// Logger receives what opening repaired, and why the file did not get smaller. Default: none.
	Logger *slog.Logger
}

// Store is a journal.Store in a SQLite file. It is safe for concurrent use.
type Store struct {
	db      *store.DB
	after   func(first, last uint64)
	log     *slog.Logger
	notices []string

	mu      sync.Mutex // mu guards what follows, and that one Append at a time reads and moves head
	head    journal.Head
	bytes   int64
	stopped error // why the store refuses appends
	closed  bool
}

var _ journal.Store = (*Store)(nil)

// Open brings the tables up to date, verifies every record and returns the store. A damaged tail is cut to the last
// whole step, which Notices tells; any other damage, and records of a newer program, are refused. db stays the caller's:
// Close does not close it.
func Open(ctx context.Context, db *store.DB, opt Options) (*Store, error) {
	if err := migrate(ctx, db); err != nil {
		return nil, err
	}
	found, err := scan(ctx, db.Read())
	if err != nil {
		return nil, fmt.Errorf("open journal in %s: %w", db.Path(), err)
	}
	s := &Store{db: db, after: opt.AfterAppend, log: opt.Logger}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if found.damaged() {
		if found, err = s.cutTail(ctx, found); err != nil {
			return nil, fmt.Errorf("open journal in %s: %w", db.Path(), err)
		}
		for _, n := range s.notices {
			s.log.LogAttrs(ctx, slog.LevelError, "journal repaired", slog.String("reason", n))
		}
	}
	s.head, s.bytes = found.head, found.bytes
	return s, nil
}

func migrate(ctx context.Context, db *store.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	return db.Migrate(ctx, Component, files)
}

func (s *Store) cutTail(ctx context.Context, found finding) (finding, error) {
	if err := found.refusal(); err != nil {
		return found, err
	}
	cut, err := cutFrom(ctx, s.db, found.cutAt)
	if err != nil {
		return found, fmt.Errorf("cut the damaged tail: %w", err)
	}
	s.notices = append(s.notices, fmt.Sprintf("the journal's tail was damaged (%s): cut back to record %d; lost: %s (kept as cut %d)",
		found.problems[0], found.head.Seq, seqs(found.cutAt, found.last), cut))
	again, err := scan(ctx, s.db.Read())
	if err == nil && again.damaged() {
		err = fmt.Errorf("still damaged after the cut: %s", again.problems[0])
	}
	return again, err
}

// Append implements journal.Store. Appends of several callers follow one another; other writers of the file share the
// commit.
func (s *Store) Append(ctx context.Context, step []journal.Record) error {
	if err := s.append(ctx, step); err != nil || len(step) == 0 {
		return err
	}
	s.appended(step)
	return nil
}

func (s *Store) appended(step []journal.Record) {
	if s.after != nil {
		s.after(step[0].Seq, step[len(step)-1].Seq)
	}
}

func (s *Store) append(ctx context.Context, step []journal.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usableLocked(); err != nil {
		return err
	}
	if len(step) == 0 {
		return nil
	}
	if err := s.head.CheckStep(step); err != nil {
		return s.stopLocked(err)
	}
	rows, err := encode(step)
	if err != nil {
		return s.stopLocked(err)
	}
	if err := s.db.Write(ctx, func(tx *sql.Tx) error { return insert(tx, rows) }); err != nil {
		return s.stopLocked(err)
	}
	s.head = s.head.After(step)
	s.bytes += size(rows)
	return nil
}

func (s *Store) usableLocked() error {
	switch {
	case s.closed:
		return errors.New("append records: the journal is closed")
	case s.stopped != nil:
		return fmt.Errorf("append records: %w: %w", journal.ErrStopped, s.stopped)
	}
	return nil
}

func (s *Store) stopLocked(err error) error {
	s.stopped = err
	return fmt.Errorf("append records: %w", err)
}

// Recover implements journal.Store. It writes and syncs a row of its own, then reads where the journal ends: a failed
// Append may have reached the disk all the same.
func (s *Store) Recover(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.New("recover journal: it is closed")
	}
	err := s.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE journal_probe SET n = n + 1 WHERE id = 1")
		return err
	})
	if err != nil {
		return fmt.Errorf("recover journal: %w", err)
	}
	found, err := scan(ctx, s.db.Read())
	if err == nil && found.damaged() {
		err = fmt.Errorf("damaged: %s", found.problems[0])
	}
	if err != nil {
		return fmt.Errorf("recover journal: %w", err)
	}
	s.head, s.bytes, s.stopped = found.head, found.bytes, nil
	return nil
}

// Head returns the journal's end.
func (s *Store) Head() journal.Head {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.head
}

// Bytes returns about how much space the records take, for the quota: the engine compacts when it grows too large.
func (s *Store) Bytes() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes
}

// Notices implements journal.Store.
func (s *Store) Notices() []string { return append([]string(nil), s.notices...) }

// Close implements journal.Store. It waits for an Append under way; the file stays open for its other users.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}
