package shim

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Boottime is the time since the machine booted, suspension included: the clock of all deadlines here. Every process of
// the machine reads the same value, and setting the date does not change it.
func Boottime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(fmt.Sprintf("shim: CLOCK_BOOTTIME cannot be read: %v", err)) // every Linux since 2.6.39 has it
	}
	return time.Duration(ts.Nano())
}

// BootID names the present boot of this machine.
func BootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

// alarm fires on C when the machine's CLOCK_BOOTTIME reaches the time that was set last, also after a suspension, in
// which ordinary timers stand still.
type alarm struct {
	C    chan struct{}
	file *os.File
	fd   int
}

func newAlarm() (*alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("create timer: %w", err)
	}
	a := &alarm{C: make(chan struct{}, 1), file: os.NewFile(uintptr(fd), "alarm"), fd: fd}
	go a.pump()
	return a, nil
}

// pump ends when close closes the file.
func (a *alarm) pump() {
	var buf [8]byte
	for {
		if _, err := a.file.Read(buf[:]); err != nil {
			return
		}
		select {
		case a.C <- struct{}{}:
		default: // one is waiting: the owner looks at the time anyway
		}
	}
}

// set arms the alarm for at; zero disarms it.
func (a *alarm) set(at time.Duration) error {
	spec := unix.ItimerSpec{}
	if at > 0 {
		spec.Value = unix.NsecToTimespec(int64(at))
	}
	if err := unix.TimerfdSettime(a.fd, unix.TFD_TIMER_ABSTIME, &spec, nil); err != nil {
		return fmt.Errorf("set timer: %w", err)
	}
	return nil
}

func (a *alarm) close() { _ = a.file.Close() }
