// Package storetest owns the faults that tests put between database/sql and SQLite.
//
// Only tests import it. It never changes what SQLite does by itself: it refuses a statement before SQLite sees it, or
// hides a success.
package storetest

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strings"
	"sync"
)

// Faults decides which statements of a store.DB's writer fail. Give its Wrap to store.Options. It is safe for concurrent
// use, and the zero value lets everything pass.
type Faults struct {
	mu     sync.Mutex // mu guards what follows
	before func(query string) error
	after  func(query string) error
}

// Before has fn asked before each statement; its error is the statement's. COMMIT and ROLLBACK are asked for too.
func (f *Faults) Before(fn func(query string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = fn
}

// After has fn asked after each statement that succeeded; its error hides the success.
func (f *Faults) After(fn func(query string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.after = fn
}

// Heal takes all faults away.
func (f *Faults) Heal() {
	f.Before(nil)
	f.After(nil)
}

// On returns a function for Before or After that fails with err, once, at the n-th statement that begins with prefix.
func On(prefix string, n int, err error) func(query string) error {
	var mu sync.Mutex
	return func(query string) error {
		mu.Lock()
		defer mu.Unlock()
		if !strings.HasPrefix(strings.ToUpper(query), prefix) {
			return nil
		}
		if n--; n != 0 {
			return nil
		}
		return fmt.Errorf("injected at %s: %w", prefix, err)
	}
}

func (f *Faults) ask(hook func(*Faults) func(string) error, query string) error {
	f.mu.Lock()
	fn := hook(f)
	f.mu.Unlock()
	if fn == nil {
		return nil
	}
	return fn(query)
}

func (f *Faults) run(query string, do func() error) error {
	if err := f.ask(func(f *Faults) func(string) error { return f.before }, query); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return f.ask(func(f *Faults) func(string) error { return f.after }, query)
}

// Wrap is for store.Options.
func (f *Faults) Wrap(c driver.Connector) driver.Connector { return &connector{c, f} }

type connector struct {
	driver.Connector
	f *Faults
}

func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	in, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	full, ok := in.(sqliteConn)
	if !ok {
		return nil, fmt.Errorf("wrap connection: %T lacks a method", in)
	}
	return &conn{full, c.f}, nil
}

// sqliteConn is all that database/sql asks of a connection, so that the wrapper hides none of it.
type sqliteConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

type conn struct {
	sqliteConn
	f *Faults
}

func (c *conn) BeginTx(ctx context.Context, opts driver.TxOptions) (t driver.Tx, err error) {
	err = c.f.run("BEGIN", func() error { t, err = c.sqliteConn.BeginTx(ctx, opts); return err })
	if err != nil {
		if t != nil {
			_ = t.Rollback()
		}
		return nil, err
	}
	return &tx{t, c.f}, nil
}

func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (r driver.Result, err error) {
	err = c.f.run(query, func() error { r, err = c.sqliteConn.ExecContext(ctx, query, args); return err })
	return r, err
}

func (c *conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	s, err := c.sqliteConn.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	full, ok := s.(sqliteStmt)
	if !ok {
		return nil, fmt.Errorf("wrap statement: %T lacks a method", s)
	}
	return &stmt{full, query, c.f}, nil
}

type sqliteStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

type stmt struct {
	sqliteStmt
	query string
	f     *Faults
}

func (s *stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (r driver.Result, err error) {
	err = s.f.run(s.query, func() error { r, err = s.sqliteStmt.ExecContext(ctx, args); return err })
	return r, err
}

type tx struct {
	driver.Tx
	f *Faults
}

func (t *tx) Commit() error {
	failed := t.f.ask(func(f *Faults) func(string) error { return f.before }, "COMMIT")
	if failed != nil { // as the driver does when COMMIT fails: the connection is left outside a transaction
		_ = t.Tx.Rollback()
		return failed
	}
	if err := t.Tx.Commit(); err != nil {
		return err
	}
	return t.f.ask(func(f *Faults) func(string) error { return f.after }, "COMMIT")
}

func (t *tx) Rollback() error { return t.f.run("ROLLBACK", t.Tx.Rollback) }
