package store

import (
	"errors"
	"fmt"
	"syscall"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrDiskFull means that the disk, or the user's share of it, has no room left.
	ErrDiskFull = errors.New("no space left on the disk")
	// ErrDamaged means that the file's own structure is broken.
	ErrDamaged = errors.New("the database file is damaged")
	// ErrForeign means that the file is not one of ours.
	ErrForeign = errors.New("the file is of another format")
	// ErrNewer means that a newer program wrote the file: a downgrade is refused.
	ErrNewer = errors.New("written by a newer autoheal")
	// ErrInUse means that another process holds the data directory.
	ErrInUse = errors.New("the data directory is in use")
	// ErrReadOnly means that the directory or the file cannot be written.
	ErrReadOnly = errors.New("not writable")
	// ErrExposed means that others than the owner may read the directory.
	ErrExposed = errors.New("readable by others")
	// ErrClosed means that the database was closed.
	ErrClosed = errors.New("the database is closed")
)

// classify puts the sentinel that belongs to err in front of it, so that callers need not know SQLite's codes.
func classify(err error) error {
	if err == nil {
		return nil
	}
	var se *sqlite.Error
	if errors.As(err, &se) {
		switch se.Code() & 0xff {
		case sqlite3.SQLITE_FULL:
			return fmt.Errorf("%w: %w", ErrDiskFull, err)
		case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		case sqlite3.SQLITE_READONLY:
			return fmt.Errorf("%w: %w", ErrReadOnly, err)
		}
	}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	case errors.Is(err, syscall.EROFS), errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	return err
}
