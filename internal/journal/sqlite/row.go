package sqlite

import (
	"bytes"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
)

// timeLayout has a fixed width, so that times compare as text.
const timeLayout = "2006-01-02T15:04:05.000000000Z"

// rowOverhead is about what a row costs beside its text and data.
const rowOverhead = 64

const columns = "seq, step, part, parts, v, epoch, at, type, incident, data, crc"

// row is a record as it stands in the table.
type row struct {
	Seq, Step   int64
	Part, Parts int64
	V, Epoch    int64
	At          string
	Type        string
	Incident    string
	Data        []byte
	CRC         int64
}

func (r *row) scan(rows *sql.Rows) error {
	return rows.Scan(&r.Seq, &r.Step, &r.Part, &r.Parts, &r.V, &r.Epoch, &r.At, &r.Type, &r.Incident, &r.Data, &r.CRC)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sum covers every column; the lengths keep two columns from trading bytes.
func (r *row) sum() int64 {
	var head [10 * 8]byte
	for i, n := range []int64{
		r.Seq, r.Step, r.Part, r.Parts, r.V, r.Epoch,
		int64(len(r.At)), int64(len(r.Type)), int64(len(r.Incident)), int64(len(r.Data)),
	} {
		binary.LittleEndian.PutUint64(head[i*8:], uint64(n))
	}
	h := crc32.Update(0, castagnoli, head[:])
	for _, s := range []string{r.At, r.Type, r.Incident} {
		h = crc32.Update(h, castagnoli, []byte(s))
	}
	return int64(crc32.Update(h, castagnoli, r.Data))
}

func (r *row) size() int64 {
	return int64(len(r.At)+len(r.Type)+len(r.Incident)+len(r.Data)) + rowOverhead
}

func size(rows []row) int64 {
	var n int64
	for i := range rows {
		n += rows[i].size()
	}
	return n
}

func encode(step []journal.Record) ([]row, error) {
	rows := make([]row, len(step))
	for i, r := range step {
		data, err := json.Marshal(r.Data)
		if err != nil {
			return nil, fmt.Errorf("encode record %d, %s: %w", r.Seq, r.Type, err)
		}
		rows[i] = row{
			Seq: int64(r.Seq), Step: int64(r.Step), Part: int64(i), Parts: int64(len(step)), V: int64(r.V), Epoch: int64(r.Epoch),
			At: r.At.UTC().Format(timeLayout), Type: string(r.Type), Incident: string(r.Incident), Data: data,
		}
		rows[i].CRC = rows[i].sum()
	}
	return rows, nil
}

func insert(tx *sql.Tx, rows []row) error {
	st, err := tx.Prepare("INSERT INTO journal (" + columns + ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
	if err != nil {
		return err
	}
	defer st.Close()
	for i := range rows {
		r := &rows[i]
		if _, err := st.Exec(r.Seq, r.Step, r.Part, r.Parts, r.V, r.Epoch, r.At, r.Type, r.Incident, r.Data, r.CRC); err != nil {
			return fmt.Errorf("write record %d, %s: %w", r.Seq, r.Type, err)
		}
	}
	return nil
}

// errNewer marks a record that is whole, but not ours to read.
var errNewer = errors.New("written by a newer autoheal")

// record decodes the row. The error wraps errNewer when the row is whole and of a newer program; any other error means
// damage.
func (r *row) record() (journal.Record, error) {
	if r.sum() != r.CRC {
		return journal.Record{}, errors.New("its checksum does not match")
	}
	at, err := time.Parse(timeLayout, r.At)
	if err != nil {
		return journal.Record{}, fmt.Errorf("its time is not one: %w", err)
	}
	if r.V > journal.Version {
		return journal.Record{}, fmt.Errorf("%w: it has version %d, this program reads up to %d", errNewer, r.V, journal.Version)
	}
	data, err := journal.DecodePayload(journal.Type(r.Type), r.Data)
	if err != nil {
		if !json.Valid(bytes.TrimSpace(r.Data)) {
			return journal.Record{}, fmt.Errorf("its data is not JSON: %w", err)
		}
		return journal.Record{}, fmt.Errorf("%w: %w", errNewer, err)
	}
	return journal.Record{
		V: int(r.V), Seq: uint64(r.Seq), Step: uint64(r.Step), Epoch: uint64(r.Epoch), At: at,
		Type: journal.Type(r.Type), Incident: autoheal.IncidentID(r.Incident), Data: data,
	}, nil
}
