package store_test

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"autoheal.dev/autoheal/internal/leakcheck"
	"autoheal.dev/autoheal/internal/store"
	"autoheal.dev/autoheal/internal/store/storetest"
)

func sqlFiles(files ...string) fs.FS {
	m := fstest.MapFS{}
	for i := 0; i+1 < len(files); i += 2 {
		m[files[i]] = &fstest.MapFile{Data: []byte("-- +goose Up\n" + files[i+1])}
	}
	return m
}

var itemsTable = sqlFiles("00001_items.sql", "CREATE TABLE items (name TEXT PRIMARY KEY, data BLOB);")

func open(t *testing.T, path string, opt store.Options) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), path, opt)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return db
}

// openItems opens a new file with the table items.
func openItems(t *testing.T, opt store.Options) *store.DB {
	t.Helper()
	db := open(t, filepath.Join(t.TempDir(), "data", "state.db"), opt)
	if err := db.Migrate(t.Context(), "items", itemsTable); err != nil {
		t.Fatalf("migrate: %v", err)
	}
	return db
}

func put(name string) func(*sql.Tx) error {
	return func(tx *sql.Tx) error {
		_, err := tx.Exec("INSERT INTO items (name) VALUES (?)", name)
		return err
	}
}

func names(t *testing.T, db *store.DB) string {
	t.Helper()
	rows, err := db.Read().QueryContext(t.Context(), "SELECT name FROM items ORDER BY name")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var n string
		if err := rows.Scan(&n); err != nil {
			t.Fatal(err)
		}
		all = append(all, n)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

func TestOpenMakesPrivateFiles(t *testing.T) {
	// A path that would be misread if it went into the URI unescaped.
	path := filepath.Join(t.TempDir(), "a ?b=c#d%41", "state.db")
	db := open(t, path, store.Options{})
	if err := db.Migrate(t.Context(), "items", itemsTable); err != nil {
		t.Fatal(err)
	}
	if err := db.Write(t.Context(), put("x")); err != nil {
		t.Fatal(err)
	}
	want := map[string]fs.FileMode{filepath.Dir(path): 0o700, path: 0o600, path + "-wal": 0o600, path + "-shm": 0o600}
	for name, mode := range want {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != mode {
			t.Errorf("%s has mode %04o, want %04o", name, info.Mode().Perm(), mode)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 3 {
		t.Errorf("the directory has %v, want 3 files (%v)", entries, err)
	}
}

func TestOpenClosesLooseFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data", "state.db")
	if err := open(t, path, store.Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	open(t, path, store.Options{})
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600 (%v)", info.Mode(), err)
	}
}

func TestOpenIsDurable(t *testing.T) {
	db := openItems(t, store.Options{})
	err := db.Write(t.Context(), func(tx *sql.Tx) error {
		for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "auto_vacuum": "2"} {
			var got string
			if err := tx.QueryRow("PRAGMA " + pragma).Scan(&got); err != nil {
				return err
			}
			if got != want {
				t.Errorf("PRAGMA %s = %s, want %s", pragma, got, want)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Read().ExecContext(t.Context(), "INSERT INTO items (name) VALUES ('x')"); err == nil {
		t.Error("a reader could write")
	}
}

func TestOpenRefuses(t *testing.T) {
	cases := []struct {
		name  string
		setup func(t *testing.T, dir string) // dir is missing
		is    error
		want  string
	}{
		{"MissingParent", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Dir(dir)); err != nil {
				t.Fatal(err)
			}
		}, nil, "its parent"},
		{"ExposedDirectory", func(t *testing.T, dir string) {
			if err := errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o750)); err != nil {
				t.Fatal(err)
			}
		}, store.ErrExposed, "chmod 700 " + string(filepath.Separator)},
		{"FileForDirectory", func(t *testing.T, dir string) {
			if err := os.WriteFile(dir, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, nil, "is not a directory"},
		{"TextFile", func(t *testing.T, dir string) {
			if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "state.db"), []byte("# notes\n"), 0o600)); err != nil {
				t.Fatal(err)
			}
		}, store.ErrForeign, "does not begin like a SQLite database"},
		{"DatabaseOfAnotherProgram", foreignDatabase, store.ErrForeign, "of another program"},
		{"DamagedFile", damagedDatabase, store.ErrDamaged, "autoheal journal repair --dry-run"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "parent", "data")
			if err := os.Mkdir(filepath.Dir(dir), 0o700); err != nil {
				t.Fatal(err)
			}
			c.setup(t, dir)
			db, err := store.Open(t.Context(), filepath.Join(dir, "state.db"), store.Options{})
			if err == nil {
				_ = db.Close()
				t.Fatal("it opened")
			}
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("error %v is not %v", err, c.is)
			}
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("error = %v, want one with %q and %q", err, c.want, dir)
			}
		})
	}
}

func foreignDatabase(t *testing.T, dir string) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(t.Context(), "CREATE TABLE bookmarks (url TEXT)")
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// damagedDatabase overwrites the middle of a database that has some pages.
func damagedDatabase(t *testing.T, dir string) {
	path := filepath.Join(dir, "state.db")
	db := open(t, path, store.Options{})
	if err := db.Migrate(t.Context(), "items", itemsTable); err != nil {
		t.Fatal(err)
	}
	err := db.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 500) INSERT INTO items SELECT 'item' || i, zeroblob(200) FROM n")
		return err
	})
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(b) / 2; i < len(b)/2+16384; i++ {
		b[i] = 0xa5
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestOpenSkipCheckReadsWhatIsLeft(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	damagedDatabase(t, dir)
	db := open(t, filepath.Join(dir, "state.db"), store.Options{SkipCheck: true})
	if err := db.Check(t.Context()); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("check: error = %v, want ErrDamaged", err)
	}
	var n int
	if err := db.Read().QueryRowContext(t.Context(), "SELECT count(*) FROM sqlite_schema").Scan(&n); err != nil || n == 0 {
		t.Errorf("the schema cannot be read: %d, %v", n, err)
	}
}

func TestRealReadOnlyDisk(t *testing.T) {
	leakcheck.Start(t)
	if !storetest.InNamespace(t) {
		return
	}
	dir := storetest.SmallDisk(t, 4<<20)
	before, err := store.Open(t.Context(), filepath.Join(dir, "kept.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := before.Close(); err != nil {
		t.Fatal(err)
	}
	storetest.MakeReadOnly(t, dir)
	if ro, err := store.Open(t.Context(), filepath.Join(dir, "kept.db"), store.Options{ReadOnly: true}); err != nil {
		t.Errorf("look into a file that was closed in order: %v", err)
	} else if err := ro.Close(); err != nil {
		t.Error(err)
	}
	if _, err := store.Open(t.Context(), filepath.Join(dir, "state.db"), store.Options{}); !errors.Is(err, store.ErrReadOnly) || !strings.Contains(err.Error(), dir) {
		t.Errorf("open: error = %v, want ErrReadOnly with the directory", err)
	}
	if _, err := store.Open(t.Context(), filepath.Join(dir, "new", "state.db"), store.Options{}); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("open in a new directory: error = %v, want ErrReadOnly", err)
	}
	if _, err := store.LockDir(dir, fixedClock{}); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("lock: error = %v, want ErrReadOnly", err)
	}
}

func TestReadOnlyBesideAWriter(t *testing.T) {
	db := openItems(t, store.Options{})
	if err := db.Write(t.Context(), put("x")); err != nil {
		t.Fatal(err)
	}
	ro := open(t, db.Path(), store.Options{ReadOnly: true})
	if got := names(t, ro); got != "x" {
		t.Errorf("it reads %q, want x", got)
	}
	if err := ro.Write(t.Context(), put("y")); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("write: error = %v, want ErrReadOnly", err)
	}
	if err := ro.Migrate(t.Context(), "items", itemsTable); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("migrate: error = %v, want ErrReadOnly", err)
	}
	if _, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "none.db"), store.Options{ReadOnly: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open a missing file: error = %v, want not exist", err)
	}
}

func TestMigrateComponents(t *testing.T) {
	db := openItems(t, store.Options{})
	other := sqlFiles("00001_a.sql", "CREATE TABLE a (x INTEGER);", "00002_b.sql", "CREATE TABLE b (x INTEGER);")
	for range 2 { // the second time there is nothing to do
		if err := db.Migrate(t.Context(), "other", other); err != nil {
			t.Fatal(err)
		}
		if err := db.Migrate(t.Context(), "items", itemsTable); err != nil {
			t.Fatal(err)
		}
	}
	older := sqlFiles("00001_a.sql", "CREATE TABLE a (x INTEGER);")
	if err := db.Migrate(t.Context(), "other", older); !errors.Is(err, store.ErrNewer) {
		t.Errorf("an older program: error = %v, want ErrNewer", err)
	}
	if err := db.Migrate(t.Context(), "Bad Name", older); err == nil {
		t.Error("a bad name was accepted")
	}
	broken := sqlFiles("00001_a.sql", "CREATE TABLE c (x INTEGER);", "00002_b.sql", "CREATE NONSENSE;")
	if err := db.Migrate(t.Context(), "broken", broken); err == nil || !strings.Contains(err.Error(), "migrate broken") {
		t.Errorf("a broken migration: error = %v", err)
	}
	if err := db.Write(t.Context(), put("still works")); err != nil {
		t.Error(err)
	}
}

func TestShrinkGivesSpaceBack(t *testing.T) {
	db := openItems(t, store.Options{})
	fill := func(tx *sql.Tx) error {
		_, err := tx.Exec("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 100) INSERT INTO items SELECT 'item' || i, randomblob(20000) FROM n")
		return err
	}
	empty := func(tx *sql.Tx) error { _, err := tx.Exec("DELETE FROM items"); return err }
	if err := db.Write(t.Context(), fill); err != nil {
		t.Fatal(err)
	}
	full, err := db.Size(t.Context())
	if err != nil || full < 2_000_000 {
		t.Fatalf("size %d of 2 MB of data (%v)", full, err)
	}
	if err := db.Write(t.Context(), empty); err != nil {
		t.Fatal(err)
	}
	if err := db.Shrink(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, err := db.Size(t.Context()); err != nil || left > 200_000 {
		t.Errorf("size %d after deleting all (%v)", left, err)
	}
	for _, name := range []string{db.Path(), db.Path() + "-wal"} {
		info, err := os.Stat(name)
		if err != nil || info.Size() > 200_000 {
			t.Errorf("%s has %d bytes after shrinking (%v)", name, info.Size(), err)
		}
	}
}

func TestClosed(t *testing.T) {
	db := openItems(t, store.Options{})
	if err := errors.Join(db.Close(), db.Close()); err != nil {
		t.Fatal(err)
	}
	if err := db.Write(t.Context(), put("x")); !errors.Is(err, store.ErrClosed) {
		t.Errorf("write: error = %v, want ErrClosed", err)
	}
	if err := db.Shrink(context.Background()); !errors.Is(err, store.ErrClosed) {
		t.Errorf("shrink: error = %v, want ErrClosed", err)
	}
}
