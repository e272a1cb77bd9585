package e2e

import (
	"bufio"
	"database/sql"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"autoheal.dev/autoheal/internal/store"
)

// record is a line of `journal show`.
type record struct {
	Seq     int64
	Type    string
	Problem string
}

// withJournal makes a cluster whose journal holds an incident, and stops it.
func withJournal(t *testing.T) (*cluster, []record) {
	t.Helper()
	c := newCluster(t, "--ephemeral")
	c.start()
	id := c.submit("crashes", "exit 9")
	c.await("an incident to end", func() bool {
		all := c.incidents()
		return len(all) == 1 && all[0].EndedAt != nil && c.workload(id).Paused != nil
	})
	c.stop()
	return c, c.journal()
}

func (c *cluster) journal() []record {
	c.t.Helper()
	r := c.cli("journal", "show")
	if r.code != 0 {
		c.t.Fatalf("journal show: %s", r)
	}
	var all []record
	lines := bufio.NewScanner(strings.NewReader(r.stdout))
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var one record
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			c.t.Fatalf("journal show prints %q: %v", lines.Text(), err)
		}
		all = append(all, one)
	}
	return all
}

// change writes into the state of a cluster that does not run, as a sick disk or another program would.
func (c *cluster) change(statement string, args ...any) {
	c.t.Helper()
	db, err := store.Open(c.t.Context(), filepath.Join(c.dir, "state.db"), store.Options{})
	if err != nil {
		c.t.Fatal(err)
	}
	err = db.Write(c.t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(c.t.Context(), statement, args...)
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		c.t.Fatal(err)
	}
}

const spoil = `UPDATE journal SET data = CAST(replace(CAST(data AS TEXT), '"', '#') AS BLOB) WHERE seq = ?`

// A damaged tail is cut, and said; what was before it stays.
func TestRealJournalDamagedAtTheTail(t *testing.T) {
	c, all := withJournal(t)
	last := all[len(all)-1]
	c.change(spoil, last.Seq)
	p := c.start()
	mustContain(t, "the start", p.line("notice:"), "tail was damaged", "cut back to record")
	if got := c.incidents(); len(got) != 1 {
		t.Errorf("incidents after the cut: %+v", got)
	}
	if p := c.cli("postmortem"); p.code != 0 || !strings.Contains(p.stdout, "crashes") && !strings.Contains(p.stdout, "wl-000001") {
		t.Errorf("the post-mortem after the cut: %s", p)
	}
	c.stop()
	p = c.start() // cut once and for all
	if strings.Contains(p.out.String(), "notice:") {
		t.Errorf("the second start cuts again:\n%s", p.out)
	}
	c.stop()
}

// Damage in the middle is for a person: nothing starts, nothing is changed, and the way out is named.
func TestRealJournalDamagedInTheMiddle(t *testing.T) {
	c, all := withJournal(t)
	middle := all[len(all)/2]
	c.change(spoil, middle.Seq)
	p := c.launch()
	if code := p.wait(); code != 1 {
		t.Errorf("up ended with %d, want 1", code)
	}
	mustContain(t, "the refusal", p.out.String(), "damaged", "autoheal journal repair --dry-run")
	look := c.cli("journal", "repair", "--dry-run")
	if look.code != 2 {
		t.Errorf("a dry run that found damage: %s", look)
	}
	report := decode[struct {
		Problems []string
		Repaired bool
	}](t, look.stdout)
	if len(report.Problems) == 0 || report.Repaired {
		t.Errorf("the dry run reports %+v", report)
	}
	found := 0
	for _, r := range c.journal() {
		if r.Problem != "" {
			found++
			if r.Seq != middle.Seq {
				t.Errorf("journal show finds damage in record %d, it is in %d", r.Seq, middle.Seq)
			}
		}
	}
	if found != 1 {
		t.Errorf("journal show finds %d damaged records, want 1", found)
	}
	if p := c.launch(); p.wait() != 1 {
		t.Error("the dry run repaired it")
	}
	if r := c.cli("journal", "repair"); r.code != 0 {
		t.Fatalf("repair: %s", r)
	}
	c.start()
	if w := c.workload("wl-000001"); w.Name != "crashes" {
		t.Errorf("the workload after the repair: %+v", w)
	}
	c.stop()
}

// What a newer program wrote is not read in part.
func TestRealNewerJournal(t *testing.T) {
	c, _ := withJournal(t)
	c.change(`INSERT INTO migrations_journal (version_id, is_applied) VALUES (9999, 1)`)
	p := c.launch()
	if code := p.wait(); code != 1 {
		t.Errorf("up ended with %d, want 1", code)
	}
	mustContain(t, "the refusal", p.out.String(), "newer", "state.db")
	c.change(`DELETE FROM migrations_journal WHERE version_id = 9999`)
	c.start()
	if got := c.incidents(); len(got) != 1 {
		t.Errorf("incidents after the way back: %+v", got)
	}
	c.stop()
}
