package store

import (
	"database/sql"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"autoheal.dev/autoheal/internal/store/storetest"
)

// BenchmarkWriters shows what group commit gains: writes a second and writes a commit, with one writer and with eight.
func BenchmarkWriters(b *testing.B) {
	for _, writers := range []int{1, 8} {
		b.Run(fmt.Sprint(writers), func(b *testing.B) {
			var faults storetest.Faults
			db := openTable(b, &faults)
			commits := countCommits(&faults)
			var next atomic.Int64
			var wg sync.WaitGroup
			b.ResetTimer()
			for range writers {
				wg.Go(func() {
					for {
						i := next.Add(1)
						if i > int64(b.N) {
							return
						}
						err := db.Write(b.Context(), func(tx *sql.Tx) error {
							_, err := tx.Exec("INSERT INTO items (name, data) VALUES (?, zeroblob(300))", fmt.Sprint(i))
							return err
						})
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/float64(*commits), "writes/commit")
		})
	}
}
