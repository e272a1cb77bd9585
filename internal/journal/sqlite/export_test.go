package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"autoheal.dev/autoheal/internal/store"
)

// ErrNewer is errNewer.
var ErrNewer = errNewer

// ChangeForTest runs an UPDATE of the record seq and, with resum, makes its checksum right again: what a newer program
// wrote, in contrast to what a sick disk did.
func ChangeForTest(ctx context.Context, db *store.DB, seq int64, set string, resum bool) error {
	return db.Write(ctx, func(tx *sql.Tx) error {
		res, err := tx.Exec("UPDATE journal SET "+set+" WHERE seq = ?", seq)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n != 1 {
			return errors.Join(err, errors.New("the change hit no record"))
		}
		if !resum {
			return nil
		}
		var r row
		rows, err := tx.Query("SELECT "+columns+" FROM journal WHERE seq = ?", seq)
		if err != nil {
			return err
		}
		defer rows.Close()
		if !rows.Next() {
			return errors.Join(rows.Err(), errors.New("no such record"))
		}
		if err := r.scan(rows); err != nil {
			return err
		}
		if err := rows.Close(); err != nil {
			return err
		}
		_, err = tx.Exec("UPDATE journal SET crc = ? WHERE seq = ?", r.sum(), seq)
		return err
	})
}
