package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"autoheal.dev/autoheal"
)

// Memory is a Store for tests and the simulator. It keeps records encoded, so that what is replayed has gone through the
// codec as it would from a disk. It is safe for concurrent use.
type Memory struct {
	mu         sync.Mutex // mu guards what follows
	head       Head
	rows       []memoryRow
	bytes      int64
	stopped    error
	closed     bool
	failAppend []memoryFault
	failBack   error
	notices    []string
	after      func(first, last uint64)
}

// memoryRow is a record with its data encoded, in columns as on a disk.
type memoryRow struct {
	Record        // without Data
	data   []byte // of the payload
}

func (row memoryRow) decode() (Record, error) {
	r, err := row.Record, error(nil)
	if r.V > Version {
		err = fmt.Errorf("it has version %d, this program reads up to %d", r.V, Version)
	} else {
		r.Data, err = DecodePayload(r.Type, row.data)
	}
	if err != nil {
		return Record{}, fmt.Errorf("read record %d: %w", row.Seq, err)
	}
	return r, nil
}

// memoryFault is an Append that fails; kept tells that its records are durable all the same.
type memoryFault struct {
	err  error
	kept bool
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty store.
func NewMemory() *Memory { return &Memory{} }

// FailNextAppend lets the next Append fail with err and keep nothing, as on a full disk. Several calls fail several
// Appends, in order; an Append refused because the store is stopped does not use one up.
func (m *Memory) FailNextAppend(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failAppend = append(m.failAppend, memoryFault{err: err})
}

// LoseNextAck lets the next Append keep its records and fail with err all the same, as when the disk answers with an
// error after the write arrived.
func (m *Memory) LoseNextAck(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failAppend = append(m.failAppend, memoryFault{err: err, kept: true})
}

// FailRecover lets every Recover fail with err until it is called with nil.
func (m *Memory) FailRecover(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failBack = err
}

// AfterAppend has fn called with the first and last Seq of each Append and Compact, after they are kept and before it returns.
func (m *Memory) AfterAppend(fn func(first, last uint64)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.after = fn
}

// AddNotice adds what Notices returns.
func (m *Memory) AddNotice(text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.notices = append(m.notices, text)
}

// Reopen returns a new store with the same records and no faults, as a restart of the program would find it. The old
// one is closed.
func (m *Memory) Reopen() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return &Memory{head: m.head, rows: m.rows[:len(m.rows):len(m.rows)], bytes: m.bytes}
}

// Head returns the end of the journal.
func (m *Memory) Head() Head {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.head
}

// Bytes returns the size of the encoded records.
func (m *Memory) Bytes() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bytes
}

// Append implements Store.
func (m *Memory) Append(ctx context.Context, step []Record) error {
	after, err := m.append(ctx, step)
	if err == nil && after != nil && len(step) > 0 {
		after(step[0].Seq, step[len(step)-1].Seq)
	}
	return err
}

func (m *Memory) append(ctx context.Context, step []Record) (func(first, last uint64), error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(); err != nil {
		return nil, err
	}
	if err := errors.Join(ctx.Err(), m.head.CheckStep(step)); err != nil {
		return nil, m.stop(err)
	}
	rows, err := encodeRows(step)
	if err != nil {
		return nil, m.stop(err)
	}
	var fault memoryFault
	if len(m.failAppend) > 0 {
		fault, m.failAppend = m.failAppend[0], m.failAppend[1:]
	}
	if fault.err == nil || fault.kept {
		m.add(rows)
		m.head = m.head.After(step)
	}
	if fault.err != nil {
		return nil, m.stop(fault.err)
	}
	return m.after, nil
}

func (m *Memory) usable() error {
	switch {
	case m.closed:
		return errors.New("the journal is closed")
	case m.stopped != nil:
		return fmt.Errorf("append records: %w: %w", ErrStopped, m.stopped)
	}
	return nil
}

func (m *Memory) stop(err error) error {
	m.stopped = err
	return fmt.Errorf("append records: %w", err)
}

func (m *Memory) add(rows []memoryRow) {
	for _, r := range rows {
		m.bytes += int64(len(r.data))
	}
	m.rows = append(m.rows, rows...)
}

func encodeRows(step []Record) ([]memoryRow, error) {
	rows := make([]memoryRow, 0, len(step))
	for _, r := range step {
		data, err := json.Marshal(r.Data)
		if err != nil {
			return nil, fmt.Errorf("encode record %d: %w", r.Seq, err)
		}
		r.At, r.Data = r.At.Round(0).UTC(), nil
		rows = append(rows, memoryRow{r, data})
	}
	return rows, nil
}

// Replay implements Store.
func (m *Memory) Replay(ctx context.Context) iter.Seq2[Record, error] {
	return m.each(ctx, func(rows []memoryRow) []memoryRow {
		for i := len(rows) - 1; i >= 0; i-- {
			if rows[i].Type == TypeSnapshot {
				return rows[i:]
			}
		}
		return rows
	})
}

// Since yields the records that follow the one with this Seq: what somebody who has read so far has not read yet.
func (m *Memory) Since(seq uint64) iter.Seq2[Record, error] {
	return m.each(context.Background(), func(rows []memoryRow) []memoryRow {
		i := len(rows)
		for i > 0 && rows[i-1].Seq > seq {
			i--
		}
		return rows[i:]
	})
}

// History implements Store.
func (m *Memory) History(ctx context.Context, incident autoheal.IncidentID) iter.Seq2[Record, error] {
	return m.each(ctx, func(rows []memoryRow) []memoryRow {
		if incident == "" {
			return rows
		}
		var own []memoryRow
		for _, r := range rows {
			if r.Incident == incident {
				own = append(own, r)
			}
		}
		return own
	})
}

func (m *Memory) each(ctx context.Context, choose func([]memoryRow) []memoryRow) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		m.mu.Lock()
		rows := choose(m.rows[:len(m.rows):len(m.rows)])
		m.mu.Unlock()
		for _, row := range rows {
			r, err := row.decode()
			if err = errors.Join(ctx.Err(), err); err != nil {
				yield(Record{}, err)
				return
			}
			if !yield(r, nil) {
				return
			}
		}
	}
}

// Compact implements Store.
func (m *Memory) Compact(ctx context.Context, snapshot Record, keep time.Time) error {
	after, err := m.compact(ctx, snapshot, keep)
	if err == nil && after != nil {
		after(snapshot.Seq, snapshot.Seq)
	}
	return err
}

func (m *Memory) compact(ctx context.Context, snapshot Record, keep time.Time) (func(first, last uint64), error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(); err != nil {
		return nil, err
	}
	if err := errors.Join(ctx.Err(), m.head.CheckSnapshot(snapshot)); err != nil {
		return nil, m.stop(err)
	}
	rows, err := encodeRows([]Record{snapshot})
	if err != nil {
		return nil, m.stop(err)
	}
	kept, err := keptIncidents(m.rows, keep)
	if err != nil {
		return nil, m.stop(err)
	}
	old := m.rows
	m.rows, m.bytes = nil, 0
	for _, r := range old {
		if r.Incident != "" && kept[r.Incident] {
			m.add([]memoryRow{r})
		}
	}
	m.add(rows)
	m.head = m.head.After([]Record{snapshot})
	return m.after, nil
}

// keptIncidents returns the incidents that go on or whose last record is not before keep.
func keptIncidents(rows []memoryRow, keep time.Time) (map[autoheal.IncidentID]bool, error) {
	lives := map[autoheal.IncidentID]Life{}
	kept := map[autoheal.IncidentID]bool{}
	types := LifeTypes()
	for _, row := range rows {
		if !row.At.Before(keep) {
			kept[row.Incident] = true
		}
		if !slices.Contains(types, row.Type) {
			continue
		}
		r, err := row.decode()
		if err != nil {
			return nil, err
		}
		lives[row.Incident] = lives[row.Incident].Next(r)
	}
	for id, life := range lives {
		if life.Open() {
			kept[id] = true
		}
	}
	return kept, nil
}

// Recover implements Store.
func (m *Memory) Recover(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed:
		return errors.New("recover journal: it is closed")
	case m.failBack != nil:
		return fmt.Errorf("recover journal: %w", m.failBack)
	case ctx.Err() != nil:
		return ctx.Err()
	}
	m.stopped = nil
	return nil
}

// Notices implements Store.
func (m *Memory) Notices() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.notices...)
}

// Close implements Store.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}
