package agent

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"autoheal.dev/autoheal/internal/agent/shim"
)

// logRecord is one line of an attempt's output.
type logRecord struct {
	at     time.Duration // CLOCK_BOOTTIME of the attempt's boot
	stream string
	text   []byte
}

// logChunk is one log file as read: first is the number of its first line among all that the attempt wrote.
type logChunk struct {
	first int64
	data  []byte
}

// readLogFiles returns the files of dir, oldest first. A rotation while reading moves files to higher numbers, so
// reading upwards misses none; one that is met twice counts once.
func readLogFiles(dir string) ([]logChunk, error) {
	byFirst := map[int64]logChunk{}
	for i := range shim.LogFiles {
		data, err := os.ReadFile(filepath.Join(dir, shim.LogFile+"."+strconv.Itoa(i)))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read log: %w", err)
		}
		head, rest, _ := bytes.Cut(data, []byte("\n"))
		number, ok := bytes.CutPrefix(head, []byte(shim.LogHeader))
		first, err := strconv.ParseInt(string(number), 10, 64)
		if !ok || err != nil {
			continue // being made at this moment
		}
		if old, twice := byFirst[first]; !twice || len(old.data) < len(rest) {
			byFirst[first] = logChunk{first, rest}
		}
	}
	chunks := make([]logChunk, 0, len(byFirst))
	for _, c := range byFirst {
		chunks = append(chunks, c)
	}
	slices.SortFunc(chunks, func(a, b logChunk) int { return cmp.Compare(a.first, b.first) })
	return chunks, nil
}

// records yields the whole lines of chunks, oldest first, and adds to *lost what rotated away or was dropped.
func records(chunks []logChunk, lost *int64) iter.Seq[logRecord] {
	return func(yield func(logRecord) bool) {
		if len(chunks) > 0 {
			*lost += chunks[0].first
		}
		for _, c := range chunks {
			for line := range bytes.Lines(c.data) {
				r, ok := parseRecord(line)
				if !ok {
					continue // torn by a full disk; it was counted as lost there
				}
				if r.stream == "" {
					n, err := strconv.ParseInt(string(r.text), 10, 64)
					if err == nil {
						*lost += n
					}
					continue
				}
				if !yield(r) {
					return
				}
			}
		}
	}
}

// parseRecord reads MILLISECONDS STREAM TEXT; a marker of dropped lines has no stream.
func parseRecord(line []byte) (r logRecord, ok bool) {
	line, whole := bytes.CutSuffix(line, []byte("\n"))
	stamp, rest, ok := bytes.Cut(line, []byte(" "))
	ms, err := strconv.ParseInt(string(stamp), 10, 64)
	if !whole || !ok || err != nil || len(rest) < 2 || rest[1] != ' ' {
		return r, false
	}
	switch rest[0] {
	case 'o':
		r.stream = "stdout"
	case 'e':
		r.stream = "stderr"
	case 'd':
	default:
		return r, false
	}
	r.at, r.text = time.Duration(ms)*time.Millisecond, rest[2:]
	return r, true
}
