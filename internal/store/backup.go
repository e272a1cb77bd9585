package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"modernc.org/sqlite"
)

// Backup writes a consistent copy of the file as it is now to path, which must not exist, while the writer goes on. The
// copy is complete, compact, readable by its owner only and durable when Backup returns; after an error there is none.
func (db *DB) Backup(ctx context.Context, path string) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return fmt.Errorf("back up %s: %w", db.path, classify(err))
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			err = errors.Join(fmt.Errorf("back up %s: %w", db.path, classify(err)), os.Remove(path))
		}
	}()
	if err := db.copyInto(ctx, path); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// copyInto has SQLite fill the empty file path. The pool's readers refuse that, being query_only, hence a connection of
// its own.
func (db *DB) copyInto(ctx context.Context, path string) (err error) {
	c, err := sqlite.NewConnector(dsn(db.path, Options{ReadOnly: true}, true))
	if err != nil {
		return err
	}
	conn := sql.OpenDB(c)
	defer func() { err = errors.Join(err, conn.Close()) }()
	_, err = conn.ExecContext(ctx, "VACUUM INTO ?", path)
	return err
}
