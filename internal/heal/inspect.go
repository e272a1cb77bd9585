package heal

import (
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/policy"
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

// Reborn returns the core of another life that has folded what c has, as if it had been given all those records. It takes
// the state over: c must not be used any more.
func (c *Core) Reborn(life Life, pol *policy.Policy) *Core {
	n := NewCore(life, pol)
	n.d = c.d
	return n
}

// Folded returns the Seq of the last record that was folded.
func (c *Core) Folded() uint64 { return c.d.Seq }

// Same reports whether two cores have the same journalled state to the last bit. False is no proof of a difference: what
// was read back may have an empty list where there was none. State decides then.
func (c *Core) Same(o *Core) bool { return reflect.DeepEqual(c.d, o.d) }

// Copy returns a core of another life that has folded the same; the two share nothing that changes.
func (c *Core) Copy(life Life, pol *policy.Policy) *Core {
	n := NewCore(life, pol)
	n.d = copier{map[reflect.Type][]int{}}.copy(reflect.ValueOf(c.d)).Interface().(*durable)
	n.d.lookUp()
	return n
}
