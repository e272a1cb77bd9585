package heal

import (
	"encoding/json"
	"fmt"
	"time"

	"autoheal.dev/autoheal/internal/journal"
)

// State returns the whole journalled state, encoded: what the fold of all records gives. Two cores that were given the
// same records return the same bytes; the simulator compares them.
func (c *Core) State() ([]byte, error) {
	state, err := json.Marshal(c.d)
	if err != nil {
		return nil, fmt.Errorf("encode the core's state: %w", err)
	}
	return state, nil
}

// Snapshot makes the record that replaces the journal so far, without what ended before keep. It is for Store.Compact;
// Adopt follows once it is durable.
func (c *Core) Snapshot(keep time.Time) (journal.Record, error) { return c.snapshot(keep) }

// Adopt folds a snapshot that was made durable.
func (c *Core) Adopt(r journal.Record) error { return c.adopt(r) }
