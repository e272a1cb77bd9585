package source

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/signal"
)

// excerpt is an entry of a corpus: lines as drivers and programs write them, after threads in which they were reported,
// and what is right to say of them.
type excerpt struct {
	ID, Kind, Source, Text string
	Want                   struct {
		Failure autoheal.Failure
		Action  autoheal.Advice
		Xid     *int
	}
}

// TestCorpus judges every excerpt of the corpora. One that is wrong is a bug of the catalogue, or of the corpus.
func TestCorpus(t *testing.T) {
	c := catalogue(t)
	files, err := filepath.Glob("../testdata/*.jsonl")
	if err != nil || len(files) == 0 {
		t.Fatalf("no corpus: %v", err)
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		right, all := 0, 0
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<24)
		for lines.Scan() {
			var e excerpt
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				t.Fatal(err)
			}
			all++
			if judgeExcerpt(t, c, e) {
				right++
			}
		}
		if err := lines.Err(); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d of %d right", filepath.Base(file), right, all)
		f.Close()
	}
}

func judgeExcerpt(t *testing.T, c *signal.Catalogue, e excerpt) bool {
	t.Helper()
	kind := signal.Kind(e.Kind)
	if kind == "mixed" {
		kind = signal.KindAny
	}
	book := signal.NewBook(signal.BookOptions{})
	Excerpt([]byte(e.Text), c, kind, signal.NewStream(c, nil), func(f signal.Found) { book.Add(f) })
	v := book.Verdict()
	wrongXid := e.Want.Xid != nil && (v.Xid == nil || *v.Xid != *e.Want.Xid)
	if v.Failure != e.Want.Failure || v.Action != e.Want.Action || wrongXid {
		t.Errorf("%s: %s/%s by %q, want %s/%s\n%v", e.ID, v.Failure, v.Action, v.Code, e.Want.Failure, e.Want.Action, v.Because)
		return false
	}
	return true
}
