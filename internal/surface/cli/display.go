package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"autoheal.dev/autoheal"
)

// fetch reads what is to be shown; render writes it for people.
type (
	fetchFunc  func() (json.RawMessage, error)
	renderFunc func(*page, json.RawMessage) error
)

// display shows once, or again on every change with --watch.
func (s *session) display(fetch fetchFunc, render renderFunc) error {
	if s.watch {
		return s.displayOnChange(fetch, render)
	}
	return s.displayOnce(fetch, render)
}

func (s *session) displayOnce(fetch fetchFunc, render renderFunc) error {
	raw, err := fetch()
	if err != nil {
		return err
	}
	return s.print(raw, render)
}

// print writes raw in the chosen format in one piece.
func (s *session) print(raw json.RawMessage, render renderFunc) error {
	var out bytes.Buffer
	switch s.format {
	case "json":
		if err := json.Indent(&out, bytes.TrimSpace(raw), "", "  "); err != nil {
			return fmt.Errorf("read answer: %w", err)
		}
		out.WriteByte('\n')
	case "yaml":
		if err := writeYAML(&out, raw); err != nil {
			return fmt.Errorf("read answer: %w", err)
		}
	default:
		p := &page{color: s.color, now: s.Now()}
		if err := render(p, raw); err != nil {
			return err
		}
		out = p.buf
	}
	_, err := s.Stdout.Write(out.Bytes())
	return err
}

// clearScreen homes the cursor and clears what is below and behind it.
const clearScreen = "\x1b[H\x1b[2J\x1b[3J"

// displayOnChange shows again after every change. A burst of changes is one redraw: what matters is the state after it.
func (s *session) displayOnChange(fetch fetchFunc, render renderFunc) error {
	ctx, cancel := context.WithCancel(s.ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	dirty, broken := make(chan struct{}, 1), make(chan error, 1)
	wg.Go(func() {
		for _, err := range s.client.Events(ctx, 0) {
			if err != nil {
				broken <- err
				return
			}
			select {
			case dirty <- struct{}{}:
			default: // a redraw is due already
			}
		}
	})
	for {
		select {
		case <-dirty:
			if s.IsTerminal && s.format == "table" {
				fmt.Fprint(s.Stdout, clearScreen)
			}
			if err := s.displayOnce(fetch, render); err != nil {
				return quietly(err)
			}
		case err := <-broken:
			return quietly(err)
		case <-s.ctx.Done():
			return nil
		}
	}
}

// quietly drops the error of a command that a person ended with Ctrl-C.
func quietly(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// needsPerson ends a command with the exit code that says so.
func needsPerson(held *autoheal.Held) error {
	if held == nil {
		return nil
	}
	return &NeedsPersonError{Text: string(held.Reason) + ": " + held.Detail}
}
