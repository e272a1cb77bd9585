package drill

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"autoheal.dev/autoheal/internal/clock"
)

// Rank is a workload that is one rank of a gang: all ranks add up a number over TCP again and again, as training does, and
// each gives up after Timeout with the words of PyTorch's watchdog. A rank on the node that the file Stall names stops
// answering and lives on.
type Rank struct {
	Dir        string // where the ranks of a generation find each other, and tell how far they are
	Stall      string
	Timeout    time.Duration
	Number     int
	Size       int
	Generation string
	Node       string
	Hangs      bool // it lives on after it has given up
	Clock      clock.Clock
	Out        io.Writer
}

// errGaveUp is the end of a rank that lost the others.
var errGaveUp = errors.New("the collective timed out")

// pause is between two collectives.
const rankPause = 50 * time.Millisecond

// Run works until ctx ends or the others are lost.
func (r Rank) Run(ctx context.Context) error {
	peers, err := r.meet(ctx)
	if err != nil {
		return fmt.Errorf("meet the other ranks of generation %s: %w", r.Generation, err)
	}
	fmt.Fprintf(r.Out, "rank %d of %d: all ranks of generation %s are here\n", r.Number, r.Size, r.Generation)
	for step := 1; ; step++ {
		if r.stalled() {
			<-ctx.Done() // alive, and silent
			return nil
		}
		began := r.Clock.Now()
		sum, err := r.allReduce(peers, step)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return r.giveUp(ctx, step, r.Clock.Now().Sub(began))
		case sum != r.Size*(r.Size+1)/2:
			return fmt.Errorf("collective %d gave %d: the ranks are not of one generation", step, sum)
		}
		if err := r.tell(step); err != nil {
			return err
		}
		if !r.sleep(ctx, rankPause) {
			return nil
		}
	}
}

// stalled reports whether this rank runs where answering stops.
func (r Rank) stalled() bool {
	return r.Node != "" && strings.TrimSpace(string(readAll(r.Stall))) == r.Node
}

// tell writes how far the generation is; rank 0 does it for all.
func (r Rank) tell(step int) error {
	if r.Number != 0 {
		return nil
	}
	return os.WriteFile(StepFile(r.Dir, r.Generation), []byte(strconv.Itoa(step)), 0o644)
}

// StepFile is where a generation tells how many collectives it has finished.
func StepFile(dir, generation string) string {
	return filepath.Join(dir, "step-"+generation)
}

// meet connects the ranks of one generation in a star: rank 0 listens, the others say who they are.
func (r Rank) meet(ctx context.Context) ([]net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	place := filepath.Join(r.Dir, "meet-"+r.Generation)
	if r.Number == 0 {
		return r.welcome(ctx, place)
	}
	for {
		if address := string(readAll(place)); address != "" {
			var d net.Dialer
			conn, err := d.DialContext(ctx, "tcp", address)
			if err == nil {
				_, err = fmt.Fprintf(conn, "%s %d\n", r.Generation, r.Number)
			}
			return []net.Conn{conn}, err
		}
		if !r.sleep(ctx, rankPause) {
			return nil, context.Cause(ctx)
		}
	}
}

func (r Rank) welcome(ctx context.Context, place string) ([]net.Conn, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	tmp := place + ".new"
	if err := errors.Join(os.WriteFile(tmp, []byte(l.Addr().String()), 0o644), os.Rename(tmp, place)); err != nil {
		return nil, err
	}
	peers := make([]net.Conn, r.Size)
	for n := 1; n < r.Size; n++ {
		conn, err := l.Accept()
		if err != nil {
			return nil, err
		}
		var generation string
		var number int
		if _, err := fmt.Fscanf(conn, "%s %d\n", &generation, &number); err != nil || generation != r.Generation || number < 1 || number >= r.Size || peers[number] != nil {
			return nil, fmt.Errorf("rank %d of generation %q is none of ours", number, generation)
		}
		peers[number] = conn
	}
	return peers, nil
}

// allReduce adds up the numbers of all ranks: rank 0 collects them and tells the sum.
func (r Rank) allReduce(peers []net.Conn, step int) (int, error) {
	deadline := r.Clock.Now().Add(r.Timeout)
	if r.Number > 0 {
		if _, err := fmt.Fprintf(peers[0], "%d %d\n", step, r.Number+1); err != nil {
			return 0, err
		}
		return receive(peers[0], deadline, step)
	}
	sum := 1
	for _, p := range peers[1:] {
		n, err := receive(p, deadline, step)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	for _, p := range peers[1:] {
		if _, err := fmt.Fprintf(p, "%d %d\n", step, sum); err != nil {
			return 0, err
		}
	}
	return sum, nil
}

// receive reads a number of one collective.
func receive(conn net.Conn, deadline time.Time, step int) (int, error) {
	if err := conn.SetReadDeadline(deadline); err != nil {
		return 0, err
	}
	var of, n int
	line := bufio.NewReaderSize(oneByte{conn}, 1)
	if _, err := fmt.Fscanf(line, "%d %d\n", &of, &n); err != nil {
		return 0, err
	}
	if of != step {
		return 0, fmt.Errorf("a number of collective %d in collective %d", of, step)
	}
	return n, nil
}

// oneByte keeps a reader from taking what belongs to the next collective.
type oneByte struct{ io.Reader }

// Read reads one byte.
func (o oneByte) Read(p []byte) (int, error) { return o.Reader.Read(p[:min(len(p), 1)]) }

// giveUp says what PyTorch's watchdog says, and ends like it, or hangs on.
func (r Rank) giveUp(ctx context.Context, step int, ran time.Duration) error {
	at := r.Clock.Now()
	stamp := fmt.Sprintf("[rank%d]:[E%s ProcessGroupNCCL.cpp", r.Number, at.Format("0102 15:04:05.000000000"))
	fmt.Fprintf(r.Out, "%s:632] [Rank %d] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=%d, OpType=ALLREDUCE, NumelIn=1, NumelOut=1, Timeout(ms)=%d) ran for %d milliseconds before timing out.\n",
		stamp, r.Number, step, r.Timeout.Milliseconds(), ran.Milliseconds())
	fmt.Fprintf(r.Out, "%s:2268] [PG ID 0 PG GUID 0(default_pg) Rank %d]  failure detected by watchdog at work sequence id: %d PG status: last enqueued work: %d, last completed work: %d\n",
		stamp, r.Number, step, step, step-1)
	if r.Hangs {
		<-ctx.Done()
		return nil
	}
	fmt.Fprintf(r.Out, "%s:684] [Rank %d] Some NCCL operations have failed or timed out. Due to the asynchronous nature of CUDA kernels, subsequent GPU operations might run on corrupted/incomplete data.\n", stamp, r.Number)
	return errGaveUp
}

func (r Rank) sleep(ctx context.Context, d time.Duration) bool {
	t := r.Clock.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C():
		return true
	case <-ctx.Done():
		return false
	}
}
