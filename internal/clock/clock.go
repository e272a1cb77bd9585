// Package clock owns the one place where the program reads time.
//
// Everything that waits or stamps takes a Clock, so that tests and the simulator decide what time it is. It may be
// imported by every package that runs (engine, agent, gateway, drivers, wiring); the pure ones (detect, policy, place,
// signal, and the core itself) are handed times as values and never import it. It never keeps state of its own.
package clock

import "time"

// Clock tells the time and makes timers. Implementations are safe for concurrent use.
type Clock interface {
	// Now returns the current time. The real clock's times carry a monotonic reading, so differences between two of
	// them are right across a step of the wall clock.
	Now() time.Time
	// NewTimer returns a timer that fires once, d from now. A d of zero or less fires at once.
	NewTimer(d time.Duration) Timer
}

// Timer fires once on C unless it is stopped before. Reset and Stop follow time.Timer: no stale tick is received after
// either returns.
type Timer interface {
	C() <-chan time.Time
	Reset(d time.Duration) bool
	Stop() bool
}

// Real is the machine's clock.
type Real struct{}

var _ Clock = Real{}

// Now returns time.Now.
func (Real) Now() time.Time { return time.Now() }

// NewTimer returns a timer of the machine's clock.
func (Real) NewTimer(d time.Duration) Timer { return realTimer{time.NewTimer(d)} }

type realTimer struct{ t *time.Timer }

func (r realTimer) C() <-chan time.Time        { return r.t.C }
func (r realTimer) Reset(d time.Duration) bool { return r.t.Reset(d) }
func (r realTimer) Stop() bool                 { return r.t.Stop() }

// Steady is a clock for the components of one process: it starts at the wall clock's time and then only counts. Setting
// the machine's date, forwards or backwards, does not move it, and its times carry no monotonic reading, so they survive
// being written down. After a step of the wall clock it differs from it until the process is restarted.
type Steady struct{ start time.Time }

var _ Clock = Steady{}

// NewSteady returns a clock that counts from now.
func NewSteady() Steady { return Steady{time.Now()} }

// Now returns the start plus the time that has passed since.
func (s Steady) Now() time.Time { return s.start.Round(0).UTC().Add(time.Since(s.start)) }

// NewTimer returns a timer of the machine's clock.
func (s Steady) NewTimer(d time.Duration) Timer { return Real{}.NewTimer(d) }
