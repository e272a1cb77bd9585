// Package journal owns the records of what the healer decided and learned, their codec, and the Store they are kept in.
//
// A record is a fact: state is what the fold of all records gives. heal writes and reads them, journal/sqlite keeps
// them; tools that show a journal may import it too. It never decides anything, never reads a clock (times come in the
// records) and never drops a record that it does not understand.
package journal

import (
	"context"
	"iter"
	"time"

	"autoheal.dev/autoheal"
)

// Version is the version of the record format. A store that holds a higher one refuses to open.
const Version = 1

// Record is one fact. Seq has no gaps; the records of one Step of the core share Step and are kept or lost together.
type Record struct {
	V        int                 `json:"v"`
	Seq      uint64              `json:"seq"`
	Step     uint64              `json:"step"`
	Epoch    uint64              `json:"epoch"`
	At       time.Time           `json:"at"`
	Type     Type                `json:"type"`
	Incident autoheal.IncidentID `json:"incident,omitempty"`
	Data     Payload             `json:"data"`
}

// Payload is the data of one type of record.
type Payload interface{ Type() Type }

// Store keeps records durably.
type Store interface {
	// Append makes the records of one Step durable before it returns: all of them or none. An error means that nothing
	// of them may be acted upon; after an error the store refuses further appends until Recover succeeds.
	Append(ctx context.Context, step []Record) error
	// Replay yields every record since the last snapshot, that snapshot first, in order of Seq.
	Replay(ctx context.Context) iter.Seq2[Record, error]
	// History yields the records of one incident, or all with "" (newest Step last), as far as they are kept.
	History(ctx context.Context, incident autoheal.IncidentID) iter.Seq2[Record, error]
	// Compact appends a Snapshot record and drops what it replaces, except records of incidents younger than keep.
	Compact(ctx context.Context, snapshot Record, keep time.Time) error
	// Recover tries to make the store writable again after a failed Append, by a synchronised write.
	Recover(ctx context.Context) error
	// Notices tells what opening had to repair, such as a damaged tail that was cut, naming the lost Seqs.
	Notices() []string
	Close() error
}
