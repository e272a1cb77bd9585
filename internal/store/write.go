package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// maxGroup bounds how many callers share one commit, so that the first of them does not wait for ever.
const maxGroup = 256

// maxTries bounds how often a caller whose group was lost by somebody else's failure starts again.
const maxTries = 5

// errGroupLost is the fate of the other members of a group whose transaction SQLite rolled back.
var errGroupLost = errors.New("the shared transaction was rolled back")

// group is one transaction shared by the callers that wanted to write at the same time.
type group struct {
	tx   *sql.Tx
	n    int // members whose changes are in it
	done chan struct{}
	err  error // set before done is closed
}

// Write runs fn in a transaction and returns once it is durable. An error means that nothing of fn is in the database,
// except when the commit itself failed half way through a sick disk: then it may appear after the file is opened again.
//
// Callers that come while another one writes share its commit, each within its own savepoint: fn's error undoes fn
// alone. fn must return the errors of its statements, must not end the transaction, must not call Write, and may be run
// again from its start when another caller's failure took the shared transaction down. ctx is looked at before fn runs;
// later the outcome is waited for, so that it is always known.
func (db *DB) Write(ctx context.Context, fn func(*sql.Tx) error) error {
	var err error
	for range maxTries {
		if err = db.join(ctx, fn); !errors.Is(err, errGroupLost) {
			break
		}
	}
	if err != nil {
		return classify(err)
	}
	return nil
}

// join runs fn as a member of the open group, commits the group when nobody else waits to join it, and waits for its
// commit.
func (db *DB) join(ctx context.Context, fn func(*sql.Tx) error) error {
	g, err := db.member(ctx, fn)
	if err != nil {
		return err
	}
	<-g.done
	return g.err
}

// member holds the turn while fn runs. Whoever finds nobody waiting commits, also when its own fn failed or panicked:
// the members before it wait for that.
func (db *DB) member(ctx context.Context, fn func(*sql.Tx) error) (_ *group, err error) {
	db.waiting.Add(1)
	db.turn.Lock()
	db.waiting.Add(-1)
	defer db.turn.Unlock()
	defer func() {
		if g := db.group; g != nil && (db.waiting.Load() == 0 || g.n >= maxGroup) {
			_ = db.commitLocked() // its members learn the outcome from the group
		}
	}()
	if err := db.writableLocked(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if db.group == nil {
		// Not the caller's context: its end would take the other members' changes along.
		tx, err := db.writer.BeginTx(context.WithoutCancel(ctx), nil)
		if err != nil {
			return nil, fmt.Errorf("begin: %w", err)
		}
		db.group = &group{tx: tx, done: make(chan struct{})}
	}
	g := db.group
	if err := db.runLocked(g, fn); err != nil {
		return nil, err
	}
	g.n++
	return g, nil
}

// runLocked runs fn in a savepoint of g. A failure that cost the whole transaction ends g.
func (db *DB) runLocked(g *group, fn func(*sql.Tx) error) (err error) {
	if _, err := g.tx.Exec("SAVEPOINT member"); err != nil {
		db.loseLocked(g)
		return fmt.Errorf("begin: %w", err)
	}
	returned := false
	defer func() {
		if returned && err == nil {
			if _, rerr := g.tx.Exec("RELEASE member"); rerr != nil {
				db.loseLocked(g)
				err = fmt.Errorf("end: %w", rerr)
			}
			return
		}
		if _, rerr := g.tx.Exec("ROLLBACK TO member"); rerr != nil {
			db.loseLocked(g)
			return
		}
		if _, rerr := g.tx.Exec("RELEASE member"); rerr != nil {
			db.loseLocked(g)
		}
	}()
	err = fn(g.tx)
	returned = true
	return err
}

// loseLocked ends a group whose transaction is gone. Its members start again.
func (db *DB) loseLocked(g *group) {
	_ = g.tx.Rollback() // SQLite has usually done it
	db.endLocked(g, errGroupLost)
}

func (db *DB) commitLocked() error {
	g := db.group
	if g.n == 0 {
		err := g.tx.Rollback()
		db.endLocked(g, err)
		return err
	}
	err := g.tx.Commit()
	if err != nil {
		err = fmt.Errorf("commit: %w", err)
	}
	db.endLocked(g, err)
	return err
}

func (db *DB) endLocked(g *group, err error) {
	db.group = nil
	g.err = err
	close(g.done)
}
