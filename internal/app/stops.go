package app

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// stops undoes a set-up: named steps, last in first out. Every step gets its own time, and all failures are told.
type stops struct{ steps []stopStep }

type stopStep struct {
	name string
	most time.Duration
	fn   func(context.Context) error
}

// add registers a step that undoes what was just done.
func (s *stops) add(name string, most time.Duration, fn func(context.Context) error) {
	s.steps = append(s.steps, stopStep{name, most, fn})
}

// run takes the steps in reverse order. A cancelled hurry makes what is left of them short.
func (s *stops) run(hurry context.Context) error {
	var errs []error
	for n := len(s.steps) - 1; n >= 0; n-- {
		step := s.steps[n]
		ctx, cancel := context.WithTimeout(hurry, step.most)
		if err := step.fn(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", step.name, err))
		}
		cancel()
	}
	s.steps = nil
	return errors.Join(errs...)
}
