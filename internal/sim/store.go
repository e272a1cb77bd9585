package sim

import (
	"context"
	"errors"
	"fmt"

	"autoheal.dev/autoheal/internal/heal"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/policy"
)

// store is the journal of all lives. Every record is encoded when it is appended and decoded once, for a reader that folds
// it at once: what the reader knows is what a life that began now would know, without reading all that went before again.
type store struct {
	*journal.Memory
	pol    *policy.Policy
	reader *heal.Core
	spare  *heal.Core // a core that ended with all that it knew being durable: it knows what the reader does
	broken error      // the reader could not fold what was written
	full   bool
	drops  bool // a planted bug: every so often a write is acknowledged and not kept
	n      int

	since     int // records since the last snapshot
	unchecked int // records since the fold was last compared
	written   int // records in all
	compacted int // how often the journal was replaced by a snapshot
}

func newStore(pol *policy.Policy) *store {
	return &store{Memory: journal.NewMemory(), pol: pol, reader: heal.NewCore(heal.Life{}, pol)}
}

var errDiskFull = errors.New("no space left on device")

// Append implements journal.Store.
func (st *store) Append(ctx context.Context, step []journal.Record) error {
	if st.full {
		st.FailNextAppend(errDiskFull)
	}
	if st.n++; st.drops && st.n%40 == 0 {
		return nil
	}
	st.since += len(step)
	st.unchecked += len(step)
	st.written += len(step)
	err := st.Memory.Append(ctx, step)
	st.read()
	return err
}

// read lets the reader fold what is new.
func (st *store) read() {
	for r, err := range st.Since(st.reader.Folded()) {
		if err == nil {
			err = st.reader.Restore(r)
		}
		if err != nil {
			st.broken = fmt.Errorf("the journal does not fold: %w", err)
			return
		}
	}
}

func (st *store) recover() { _ = st.Recover(context.Background()) }

// retire takes a core that ended. If everything that it knew is durable, it saves a copy.
func (st *store) retire(c *heal.Core) {
	if c.Folded() == st.reader.Folded() {
		st.spare = c
	}
}

// restore makes the core of a new life out of the journal.
func (st *store) restore(life heal.Life, pol *policy.Policy) (*heal.Core, error) {
	if st.broken != nil {
		return nil, st.broken
	}
	if st.spare == nil || st.spare.Folded() != st.reader.Folded() {
		st.spare = st.reader.Copy(heal.Life{}, st.pol)
	}
	c := st.reader.Reborn(life, pol)
	st.reader, st.spare = st.spare.Reborn(heal.Life{}, st.pol), nil
	return c, nil
}

// replayed folds everything that is kept, as a program that starts would do.
func (st *store) replayed() (*heal.Core, error) {
	fresh := heal.NewCore(heal.Life{}, st.pol)
	for r, err := range st.Replay(context.Background()) {
		if err == nil {
			err = fresh.Restore(r)
		}
		if err != nil {
			return nil, fmt.Errorf("the journal does not fold: %w", err)
		}
	}
	return fresh, nil
}
