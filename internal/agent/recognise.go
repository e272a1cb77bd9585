package agent

import (
	"log/slog"
	"strings"
	"sync"

	"autoheal.dev/autoheal/internal/signal"
)

// recogniser knows what lines of workloads mean. It is built when somebody searches for the first time: an idle agent does
// without its memory.
type recogniser struct {
	once      sync.Once
	catalogue *signal.Catalogue
}

// words returns the phrases by which a line may be found beside its own (behaviour H2).
func (r *recogniser) words(line []byte, log *slog.Logger) []string {
	r.once.Do(func() {
		var err error
		if r.catalogue, err = signal.Builtin(); err != nil {
			log.Error("the catalogue of signals cannot be read; logs are searched without it", slog.Any("error", err))
		}
	})
	if r.catalogue == nil {
		return nil
	}
	m, ok := r.catalogue.Match(signal.Unframe(line).Message, signal.KindWorkload)
	if !ok {
		return nil
	}
	return m.SearchWords()
}

// findable is a line as a search sees it: itself, and the phrases of what was recognised in it.
func findable(line []byte, words []string) []byte {
	if len(words) == 0 {
		return line
	}
	return append(append([]byte{}, line...), " "+strings.Join(words, " ")...)
}
