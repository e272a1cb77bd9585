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

// hurried is what a step still gets once there is a hurry: enough to close what it holds.
const hurried = 2 * time.Second

// run takes the steps in reverse order. Once hurry has ended, what is left of them gets little time.
func (s *stops) run(hurry context.Context) error {
	var errs []error
	for n := len(s.steps) - 1; n >= 0; n-- {
		step := s.steps[n]
		ctx, cancel := context.WithTimeout(context.WithoutCancel(hurry), step.most)
		calm := context.AfterFunc(hurry, func() {
			t := time.NewTimer(hurried)
			defer t.Stop()
			select {
			case <-t.C:
				cancel()
			case <-ctx.Done():
			}
		})
		if err := step.fn(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", step.name, err))
		}
		calm()
		cancel()
	}
	s.steps = nil
	return errors.Join(errs...)
}
