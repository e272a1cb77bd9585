package store

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"modernc.org/sqlite"
)

// ApplicationID marks our files in SQLite's header: "heal" in ASCII.
const ApplicationID = 0x6865616c

const (
	busyTimeout = 10 * time.Second
	readers     = 4
	magic       = "SQLite format 3\x00"
)

// Options of Open. The zero value is good.
type Options struct {
	// Logger receives what opening repaired. Default: none.
	Logger *slog.Logger
	// Relaxed commits without waiting for the disk (synchronous=NORMAL): a crash of the machine may lose the last
	// commits, never the file. For telemetry, never for the journal.
	Relaxed bool
	// ReadOnly opens an existing file beside a running healer; Write and Migrate fail.
	ReadOnly bool
	// SkipCheck leaves out the integrity check, for the tools that examine a damaged file.
	SkipCheck bool
	// Wrap, when set, wraps the connector of the writer, for tests that let statements fail.
	Wrap func(driver.Connector) driver.Connector
}

// DB is one SQLite file: one writer, whose commits are shared by the callers that wait at the same time, and a pool of
// readers that never block it. It is safe for concurrent use.
type DB struct {
	path   string
	log    *slog.Logger
	writer *sql.DB // at most one connection; nil when read-only
	reader *sql.DB

	waiting atomic.Int64 // callers that wait for turn
	turn    sync.Mutex   // turn guards what follows, and the writer's connection
	group   *group
	closed  bool
}

// Open opens or makes the SQLite file path in a directory that only its owner may read, checks its integrity and leaves
// its tables to Migrate. It does not take the directory's lock: see Lock.
func Open(ctx context.Context, path string, opt Options) (*DB, error) {
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	fresh, err := prepareFile(path, opt)
	if err != nil {
		return nil, err
	}
	// A commit waits for fdatasync instead of fsync: as durable, without the journal entry for the file's times. On
	// systems without it the library stays with fsync.
	if _, err := sqlite.Fdatasync(true); err != nil && !errors.Is(err, sqlite.ErrFdatasyncUnavailable) {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db := &DB{path: path, log: opt.Logger}
	if err := db.connect(ctx, fresh, opt); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), db.Close())
	}
	return db, nil
}

// prepareFile checks the directory and the file's own header before SQLite touches it, and makes an empty file with the
// right mode: SQLite gives its -wal and -shm files the mode of the database.
func prepareFile(path string, opt Options) (fresh bool, err error) {
	if opt.ReadOnly {
		return false, checkHeader(path)
	}
	dir := filepath.Dir(path)
	if err := EnsureDir(dir); err != nil {
		return false, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return false, fmt.Errorf("open %s: %w", path, classify(err))
	}
	info, err := f.Stat()
	if err = errors.Join(err, f.Close()); err != nil {
		return false, fmt.Errorf("open %s: %w", path, err)
	}
	if err := tightenMode(path, opt.Logger); err != nil {
		return false, err
	}
	if info.Size() == 0 {
		return true, syncDir(dir)
	}
	return false, checkHeader(path)
}

func tightenMode(path string, log *slog.Logger) error {
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		info, err := os.Stat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("open %s: %w", name, err)
		}
		if info.Mode().Perm()&0o077 == 0 {
			continue
		}
		if err := os.Chmod(name, fileMode); err != nil {
			return fmt.Errorf("close %s to others: %w", name, classify(err))
		}
		log.Warn("closed a state file to other users", slog.String("file", name), slog.String("mode", info.Mode().Perm().String()))
	}
	return nil
}

// checkHeader refuses what is not SQLite's, so that a wrong path never ends in an overwritten file.
func checkHeader(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer f.Close()
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(f, head); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if !bytes.Equal(head, []byte(magic)) {
		return fmt.Errorf("open %s: %w: it does not begin like a SQLite database", path, ErrForeign)
	}
	return nil
}

func (db *DB) connect(ctx context.Context, fresh bool, opt Options) error {
	read, err := sqlite.NewConnector(dsn(db.path, opt, true))
	if err != nil {
		return err
	}
	if !opt.ReadOnly {
		write, err := sqlite.NewConnector(dsn(db.path, opt, false))
		if err != nil {
			return err
		}
		if opt.Wrap != nil {
			write = opt.Wrap(write)
		}
		db.writer = sql.OpenDB(write)
		db.writer.SetMaxOpenConns(1)
		if err := db.writer.PingContext(ctx); err != nil {
			return classify(err)
		}
	}
	db.reader = sql.OpenDB(read)
	db.reader.SetMaxOpenConns(readers)
	db.reader.SetMaxIdleConns(readers)
	if fresh {
		_, err := db.writer.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d", ApplicationID))
		return classify(err)
	}
	return db.checkFile(ctx, opt)
}

func (db *DB) checkFile(ctx context.Context, opt Options) error {
	var id, tables int64
	if err := db.reader.QueryRowContext(ctx, "PRAGMA application_id").Scan(&id); err != nil {
		return classify(err)
	}
	if err := db.reader.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&tables); err != nil {
		return classify(err)
	}
	switch {
	case id == ApplicationID:
	case id == 0 && tables == 0 && db.writer != nil: // made, then cut off before it was marked
		if _, err := db.writer.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d", ApplicationID)); err != nil {
			return classify(err)
		}
	default:
		return fmt.Errorf("%w: a SQLite database of another program (application id %#x)", ErrForeign, id)
	}
	if opt.SkipCheck {
		return nil
	}
	return db.Check(ctx)
}

// Check reads the whole file and compares its structure (SQLite's quick_check). The error is ErrDamaged.
func (db *DB) Check(ctx context.Context) error {
	rows, err := db.reader.QueryContext(ctx, "PRAGMA quick_check(5)")
	if err != nil {
		return classify(err)
	}
	defer rows.Close()
	var found []string
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			return classify(err)
		}
		if line != "ok" {
			found = append(found, line)
		}
	}
	if err := rows.Err(); err != nil {
		return classify(err)
	}
	if len(found) > 0 {
		return fmt.Errorf("%w: %s: restore a backup, or see what is left with autoheal journal repair --dry-run",
			ErrDamaged, strings.Join(found, "; "))
	}
	return nil
}

// cannotChange reports whether a file lies where nothing can be written and was closed in order: no write-ahead log is
// left beside it.
func cannotChange(path string) bool {
	if unix.Access(filepath.Dir(path), unix.W_OK) == nil {
		return false
	}
	_, err := os.Stat(path + "-wal")
	return errors.Is(err, fs.ErrNotExist)
}

func dsn(path string, opt Options, reading bool) string {
	sync := "FULL"
	if opt.Relaxed {
		sync = "NORMAL"
	}
	q := url.Values{
		"_busy_timeout": {fmt.Sprint(busyTimeout.Milliseconds())},
		"_dqs":          {"0"},
		"_error_rc":     {"1"},
		"_foreign_keys": {"1"},
	}
	switch {
	case opt.ReadOnly:
		q.Set("mode", "ro")
		if cannotChange(path) {
			q.Set("immutable", "1") // SQLite would want to make its shared-memory file even for reading
		}
	case reading:
		q.Set("mode", "rw")
		q.Set("_query_only", "1")
	default:
		q.Set("mode", "rw")
		q.Set("_auto_vacuum", "INCREMENTAL") // so that dropped records give their space back
		q.Set("_journal_mode", "WAL")
		q.Set("_synchronous", sync)
		q.Set("_txlock", "immediate")
		q.Add("_pragma", "fullfsync(1)") // macOS: really to the disk; elsewhere without effect
		q.Add("_pragma", "checkpoint_fullfsync(1)")
		q.Add("_pragma", "journal_size_limit(16777216)") // a burst's log does not stay large
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}

// Path returns the file's absolute path.
func (db *DB) Path() string { return db.path }

// Read returns the pool of readers. They see what is committed and cannot write.
func (db *DB) Read() *sql.DB { return db.reader }

// Size returns the bytes in use by the file's content, without what deleted rows left free.
func (db *DB) Size(ctx context.Context) (int64, error) {
	var n int64
	err := db.reader.QueryRowContext(ctx,
		"SELECT (c.page_count - f.freelist_count) * s.page_size FROM pragma_page_count c, pragma_freelist_count f, pragma_page_size s").Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("measure %s: %w", db.path, classify(err))
	}
	return n, nil
}

// Shrink gives the space of deleted rows back to the file system and empties the write-ahead log.
func (db *DB) Shrink(ctx context.Context) error {
	release, err := db.alone()
	if err != nil {
		return err
	}
	defer release()
	for _, stmt := range []string{"PRAGMA incremental_vacuum", "PRAGMA wal_checkpoint(TRUNCATE)"} {
		if err := drain(ctx, db.writer, stmt); err != nil {
			return fmt.Errorf("shrink %s: %w", db.path, classify(err))
		}
	}
	return nil
}

// drain steps a PRAGMA to its end: incremental_vacuum frees one page a row.
func drain(ctx context.Context, db *sql.DB, stmt string) error {
	rows, err := db.QueryContext(ctx, stmt)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
	}
	return rows.Err()
}

// alone gives the caller the writer's connection outside of any group, until it calls release.
func (db *DB) alone() (release func(), err error) {
	db.turn.Lock()
	if db.group != nil {
		_ = db.commitLocked() // its members learn the outcome from the group
	}
	if err := db.writableLocked(); err != nil {
		db.turn.Unlock()
		return nil, err
	}
	return db.turn.Unlock, nil
}

func (db *DB) writableLocked() error {
	switch {
	case db.closed:
		return ErrClosed
	case db.writer == nil:
		return fmt.Errorf("write %s: %w: it was opened for reading", db.path, ErrReadOnly)
	}
	return nil
}

// Close waits for the writer and closes the file. Closing twice is fine.
func (db *DB) Close() error {
	db.turn.Lock()
	defer db.turn.Unlock()
	if db.closed {
		return nil
	}
	db.closed = true
	var errs []error
	if db.group != nil { // its members wait for somebody who will find the database closed
		errs = append(errs, db.commitLocked())
	}
	if db.reader != nil {
		errs = append(errs, db.reader.Close())
	}
	if db.writer != nil {
		errs = append(errs, db.writer.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close %s: %w", db.path, err)
	}
	return nil
}
