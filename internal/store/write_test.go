package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"autoheal.dev/autoheal/internal/store/storetest"
)

var errInjected = errors.New("injected")

func openTable(t testing.TB, faults *storetest.Faults) *DB {
	t.Helper()
	db, err := Open(t.Context(), filepath.Join(t.TempDir(), "data", "state.db"), Options{Wrap: faults.Wrap})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	files := fstest.MapFS{"00001_items.sql": {Data: []byte("-- +goose Up\nCREATE TABLE items (name TEXT PRIMARY KEY, data BLOB);")}}
	if err := db.Migrate(t.Context(), "items", files); err != nil {
		t.Fatal(err)
	}
	return db
}

func put(name string) func(*sql.Tx) error {
	return func(tx *sql.Tx) error {
		_, err := tx.Exec("INSERT INTO items (name) VALUES (?)", name)
		return err
	}
}

func items(t *testing.T, db *DB) string {
	t.Helper()
	var all sql.NullString
	err := db.Read().QueryRowContext(t.Context(), "SELECT group_concat(name, ' ') FROM (SELECT name FROM items ORDER BY name)").Scan(&all)
	if err != nil {
		t.Fatal(err)
	}
	return all.String
}

// together runs the functions as members of one group: the first starts and waits until all others queue behind it. It
// returns their errors in order; a panic becomes an error.
func together(t *testing.T, db *DB, fns ...func(*sql.Tx) error) []error {
	t.Helper()
	errs := make([]error, len(fns))
	var wg sync.WaitGroup
	run := func(i int, fn func(*sql.Tx) error) {
		defer func() {
			if p := recover(); p != nil {
				errs[i] = fmt.Errorf("panic: %v", p)
			}
		}()
		errs[i] = db.Write(t.Context(), fn)
	}
	started := make(chan struct{})
	var once sync.Once
	wg.Go(func() {
		run(0, func(tx *sql.Tx) error {
			once.Do(func() { // not when it is run again
				close(started)
				for db.waiting.Load() < int64(len(fns)-1) {
					runtime.Gosched()
				}
			})
			return fns[0](tx)
		})
	})
	<-started
	for i, fn := range fns[1:] {
		wg.Go(func() { run(i+1, fn) })
	}
	wg.Wait()
	if db.group != nil || db.waiting.Load() != 0 {
		t.Errorf("a group was left open, or somebody still counts as waiting (%d)", db.waiting.Load())
	}
	return errs
}

func countCommits(f *storetest.Faults) *int {
	var n int
	f.After(func(query string) error {
		if query == "COMMIT" {
			n++
		}
		return nil
	})
	return &n
}

func TestWritersShareACommit(t *testing.T) {
	var faults storetest.Faults
	db := openTable(t, &faults)
	commits := countCommits(&faults)
	var fns []func(*sql.Tx) error
	for i := range 8 {
		fns = append(fns, put(fmt.Sprint(i)))
	}
	if err := errors.Join(together(t, db, fns...)...); err != nil {
		t.Fatal(err)
	}
	if *commits != 1 {
		t.Errorf("%d commits for 8 writers that wait together, want 1", *commits)
	}
	if got := items(t, db); got != "0 1 2 3 4 5 6 7" {
		t.Errorf("items %q", got)
	}
}

func TestAMembersFailureIsItsOwn(t *testing.T) {
	var faults storetest.Faults
	db := openTable(t, &faults)
	fail := func(tx *sql.Tx) error { return errors.Join(put("half")(tx), errInjected) }
	boom := func(tx *sql.Tx) error { _ = put("boom")(tx); panic("boom") }
	for i, bad := range []func(*sql.Tx) error{fail, boom} {
		a, b := fmt.Sprint("a", i), fmt.Sprint("b", i)
		for pos := range 3 {
			a, b := fmt.Sprint(a, pos), fmt.Sprint(b, pos)
			fns := slices.Insert([]func(*sql.Tx) error{put(a), put(b)}, pos, bad)
			errs := together(t, db, fns...)
			if errs[pos] == nil || strings.Contains(errs[pos].Error(), "rolled back") {
				t.Errorf("the bad member's error = %v", errs[pos])
			}
			errs[pos] = nil
			if err := errors.Join(errs...); err != nil {
				t.Errorf("the others: %v", err)
			}
		}
	}
	if got := items(t, db); got != "a00 a01 a02 a10 a11 a12 b00 b01 b02 b10 b11 b12" {
		t.Errorf("items %q", got)
	}
}

// TestALostTransactionCostsOnlyItsCause has one member make SQLite roll back everything, as it does when the disk is
// full or a statement is interrupted.
func TestALostTransactionCostsOnlyItsCause(t *testing.T) {
	var faults storetest.Faults
	db := openTable(t, &faults)
	for pos := range 3 {
		a, b := fmt.Sprint("a", pos), fmt.Sprint("b", pos)
		lose := func(tx *sql.Tx) error {
			_, err := tx.Exec("INSERT OR ROLLBACK INTO items (name) VALUES ('x'), ('x')")
			return err
		}
		swallow := func(tx *sql.Tx) error { _ = lose(tx); return nil }
		bad := lose
		if pos == 1 {
			bad = swallow
		}
		errs := together(t, db, slices.Insert([]func(*sql.Tx) error{put(a), put(b)}, pos, bad)...)
		if errs[pos] == nil {
			t.Errorf("position %d: the cause has no error", pos)
		}
		errs[pos] = nil
		if err := errors.Join(errs...); err != nil {
			t.Errorf("position %d: the others: %v", pos, err)
		}
	}
	if got := items(t, db); got != "a0 a1 a2 b0 b1 b2" {
		t.Errorf("items %q", got)
	}
}

func TestAFailedCommitFailsAllMembers(t *testing.T) {
	var faults storetest.Faults
	db := openTable(t, &faults)
	faults.Before(storetest.On("COMMIT", 1, errInjected))
	for i, err := range together(t, db, put("a"), put("b"), put("c")) {
		if !errors.Is(err, errInjected) {
			t.Errorf("member %d: error = %v, want the injected one", i, err)
		}
	}
	if got := items(t, db); got != "" {
		t.Errorf("items after a failed commit: %q", got)
	}
	if err := db.Write(t.Context(), put("d")); err != nil {
		t.Errorf("the next write: %v", err)
	}
	faults.Before(storetest.On("BEGIN", 1, errInjected))
	if err := db.Write(t.Context(), put("e")); !errors.Is(err, errInjected) {
		t.Errorf("error = %v, want the injected one", err)
	}
	if got := items(t, db); got != "d" {
		t.Errorf("items %q, want d", got)
	}
}

func TestWriteLooksAtItsContextFirst(t *testing.T) {
	db := openTable(t, &storetest.Faults{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := db.Write(ctx, put("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want context.Canceled", err)
	}
	// A context that ends while fn runs does not undo what is acknowledged.
	ctx, cancel = context.WithCancel(t.Context())
	err := db.Write(ctx, func(tx *sql.Tx) error { cancel(); return put("y")(tx) })
	if err != nil || items(t, db) != "y" {
		t.Errorf("items %q, error %v", items(t, db), err)
	}
}

// TestFullFile lets SQLite itself say SQLITE_FULL, in the middle of a transaction.
func TestFullFile(t *testing.T) {
	db := openTable(t, &storetest.Faults{})
	limit := func(pages string) {
		t.Helper()
		if _, err := db.writer.ExecContext(t.Context(), "PRAGMA max_page_count = "+pages); err != nil {
			t.Fatal(err)
		}
	}
	limit("20")
	big := func(tx *sql.Tx) error {
		for i := range 50 {
			if _, err := tx.Exec("INSERT INTO items (name, data) VALUES (?, randomblob(8000))", fmt.Sprint("big", i)); err != nil {
				return err
			}
		}
		return nil
	}
	errs := together(t, db, put("a"), big, put("b"))
	if !errors.Is(errs[1], ErrDiskFull) {
		t.Errorf("error = %v, want ErrDiskFull", errs[1])
	}
	if err := errors.Join(errs[0], errs[2]); err != nil {
		t.Errorf("the small ones: %v", err)
	}
	if got := items(t, db); got != "a b" {
		t.Errorf("items %q, want a b", got)
	}
	limit("100000")
	if err := db.Write(t.Context(), big); err != nil {
		t.Errorf("with space again: %v", err)
	}
}

func TestManyWriters(t *testing.T) {
	var faults storetest.Faults
	db := openTable(t, &faults)
	commits := countCommits(&faults)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 40 {
				err := db.Write(t.Context(), func(tx *sql.Tx) error {
					if i%10 == 9 {
						return errors.Join(put(fmt.Sprintf("bad-%d-%d", w, i))(tx), errInjected)
					}
					return put(fmt.Sprintf("%d-%02d", w, i))(tx)
				})
				if (err != nil) != (i%10 == 9) {
					t.Errorf("writer %d, item %d: %v", w, i, err)
				}
			}
		})
	}
	wg.Wait()
	if got := len(strings.Fields(items(t, db))); got != 8*36 {
		t.Errorf("%d items, want %d", got, 8*36)
	}
	t.Logf("%d commits for %d writes", *commits, 8*36)
}
