package shim

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"

	"golang.org/x/sys/unix"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/clock"
)

// Descriptors that the agent passes: the attempt's lock, and one end of a socket pair that is subscribed from the start.
const (
	lockFD = 3
	pairFD = 4
)

// Main runs one shim: autoheal shim --dir DIR. It returns the exit code of the shim itself, which says nothing about the
// workload: that is in DIR/exit.json. Errors go to stderr, which the agent points at DIR/shim.log.
func Main(args []string, stderr io.Writer) int {
	flags := flag.NewFlagSet("shim", flag.ContinueOnError)
	flags.SetOutput(stderr)
	dir := flags.String("dir", "", "folder of the attempt")
	if err := flags.Parse(args); err != nil || *dir == "" || flags.NArg() > 0 {
		fmt.Fprintln(stderr, "autoheal shim: it is started by an agent, with --dir and two open descriptors")
		return 64
	}
	if err := run(*dir); err != nil {
		fmt.Fprintln(stderr, "autoheal shim:", err)
		return 1
	}
	return 0
}

func run(dir string) error {
	// A shim idles for weeks beside other people's work: it trades a little CPU time at each collection for memory.
	debug.SetGCPercent(20)
	debug.SetMemoryLimit(6 << 20)
	// The workload gets no descriptor of ours, nor one that the agent's own parent let slip through.
	if err := unix.CloseRange(lockFD, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		if err := closeOnExecByHand(); err != nil { // before Linux 5.11
			return err
		}
	}
	if err := os.Chdir(dir); err != nil {
		return fmt.Errorf("enter attempt: %w", err)
	}
	if _, err := os.Stat(ExitFile); !errors.Is(err, fs.ErrNotExist) {
		return errors.New("start attempt: it has ended already")
	}
	spec, err := ReadSpec(".")
	if err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become subreaper: %w", err)
	}
	l, err := listen()
	if err != nil {
		return err
	}
	defer l.Close()
	o, err := newOwner(spec, clock.Real{})
	if err != nil {
		return err
	}
	defer o.alarm.close()
	if err := o.adopt(pairFD); err != nil {
		return err
	}
	go accept(l, o.clk, o.requests)
	go o.catchSignals()
	o.run()
	return nil
}

func closeOnExecByHand() error {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("list descriptors: %w", err)
	}
	for _, e := range fds {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd >= lockFD {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

func newOwner(spec *Spec, clk clock.Clock) (*owner, error) {
	a, err := newAlarm()
	if err != nil {
		return nil, err
	}
	mainGone, allGone := make(chan unix.WaitStatus, 1), make(chan struct{}, 1)
	o := &owner{
		spec: spec, clk: clk, boot: Boottime, alarm: a,
		requests: make(chan asked), mainGone: mainGone, allGone: allGone, peers: map[*peer]bool{},
		permit: &permit{boot: Boottime},
		work:   &hostWorker{spec: spec, clk: clk, boot: Boottime, mainGone: mainGone, allGone: allGone},
	}
	if spec.Container != nil {
		o.work = newContainerWorker(spec, clk, mainGone, allGone)
	}
	return o, nil
}

// adopt takes the agent's end of the pair as a connection that has subscribed.
func (o *owner) adopt(fd int) error {
	f := os.NewFile(uintptr(fd), "agent")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return fmt.Errorf("open connection to agent: %w", err)
	}
	p := &peer{conn: c, clk: o.clk, subscribed: true}
	o.peers[p] = true
	go serve(p, o.requests)
	return nil
}

// catchSignals keeps the shim alive through signals meant for a terminal or a session, and ends the workload in order
// when the machine shuts down. Notify rather than Ignore: what is ignored would be inherited by the workload.
func (o *owner) catchSignals() {
	ch := make(chan os.Signal, 4)
	signal.Notify(ch, unix.SIGTERM, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGPIPE)
	none := &peer{conn: discard{}, clk: o.clk}
	for s := range ch {
		if s == unix.SIGTERM {
			o.requests <- asked{conn: none, req: Request{Op: OpStop, GraceMS: 5000, Reason: string(autoheal.ExitShutdown)}}
		}
	}
}
