package drill

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"autoheal.dev/autoheal/internal/clock"
)

// Hog is a workload that takes a known amount of memory and holds it.
type Hog struct {
	After string // wait until this file exists; "" = begin at once
	Done  string // make this file when all is taken; "" = none
	MiB   int64
	Clock clock.Clock
	Out   io.Writer
}

// Run holds the memory until ctx ends. It takes it in steps, so that a limit is met where it lies.
func (h Hog) Run(ctx context.Context) error {
	if err := h.await(ctx); err != nil {
		return fmt.Errorf("wait for the word to take memory: %w", err)
	}
	fmt.Fprintf(h.Out, "taking %d MiB\n", h.MiB)
	mem, err := unix.Mmap(-1, 0, int(h.MiB<<20), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return fmt.Errorf("take memory: %w", err)
	}
	for i := 0; i < len(mem); i += os.Getpagesize() {
		mem[i] = 1
	}
	fmt.Fprintf(h.Out, "holding %d MiB\n", h.MiB)
	if h.Done != "" {
		if err := os.WriteFile(h.Done, nil, 0o600); err != nil {
			return fmt.Errorf("tell that memory is taken: %w", err)
		}
	}
	<-ctx.Done()
	return unix.Munmap(mem)
}

func (h Hog) await(ctx context.Context) error {
	for h.After != "" {
		found, err := exists(h.After)
		if err != nil || found {
			return err
		}
		t := h.Clock.NewTimer(20 * time.Millisecond)
		select {
		case <-t.C():
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
	return nil
}
