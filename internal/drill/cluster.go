package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/clock"
	"autoheal.dev/autoheal/internal/surface/client"
)

// cluster is one throw-away cluster: the child process 'up', its janitor, and the client of its local door.
type cluster struct {
	self  string // this binary
	dir   string // holds everything; removed by the janitor
	data  string // of up
	group string
	clock clock.Clock
	args  []string // of up
	env   []string // more environment of up
	proc  procFS

	client  *client.Client
	janitor *exec.Cmd
	leash   io.WriteCloser // the janitor's standard input
	changes *follower

	mu  sync.Mutex // guards what follows
	up  *exec.Cmd
	end chan struct{} // closed when the present up has ended
	err error         // how it ended
}

// upTime is how long 'up' gets to open its door and have every node answer.
const upTime = time.Minute

// newCluster makes the directory and the janitor; start follows.
func newCluster(opt Options, name string) (*cluster, error) {
	dir, err := os.MkdirTemp(opt.TempDir, CgroupPrefix)
	if err != nil {
		return nil, fmt.Errorf("make the directory of drill %s: %w", name, err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	c := &cluster{self: opt.Self, dir: dir, data: filepath.Join(dir, "data"), group: filepath.Base(dir), clock: opt.Clock, env: opt.Env, proc: procFS{"/proc"}}
	for _, d := range []string{c.data, c.kernelLogs()} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
	}
	if c.client, err = client.New("unix:" + filepath.Join(c.data, "api.sock")); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	c.janitor = exec.Command(opt.Self, "drill", "janitor", "--dir", c.dir, "--cgroup", c.group)
	c.janitor.Dir = "/"
	c.janitor.Stderr = opt.Err
	c.janitor.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // what is typed at the terminal does not reach it
	if c.leash, err = c.janitor.StdinPipe(); err == nil {
		err = c.janitor.Start()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the janitor of drill %s: %w", name, err), os.RemoveAll(dir))
	}
	return c, nil
}

// start runs 'up' and waits until all nodes answer. More environment goes to this life only.
func (c *cluster) start(ctx context.Context, nodes int, env ...string) error {
	if err := c.launch(env...); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, upTime, fmt.Errorf("'up' was not ready within %s", upTime))
	defer cancel()
	for {
		ready, err := c.ready(ctx, nodes)
		if ready {
			break
		}
		select {
		case <-c.ended():
			return c.died()
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-c.after(10 * time.Millisecond): // before the door is open there is nothing to subscribe to
		}
	}
	c.changes = follow(c.client)
	return nil
}

// restart runs the next life of 'up' after one has ended, and waits until it has seen its cluster. Nodes that were killed
// stay so.
func (c *cluster) restart(ctx context.Context) error {
	c.changes.stop()
	if err := c.launch(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, upTime, fmt.Errorf("'up' was not ready within %s", upTime))
	defer cancel()
	for {
		st, err := c.look(ctx)
		if err == nil && st.Healer.Synced {
			break
		}
		select {
		case <-c.ended():
			return c.died()
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-c.after(10 * time.Millisecond):
		}
	}
	c.changes = follow(c.client)
	return nil
}

// launch starts a life of 'up'. Its output is appended to DIR/up.log.
func (c *cluster) launch(env ...string) error {
	log, err := os.OpenFile(c.log(), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the log of up: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(c.self, c.args...)
	cmd.Dir = c.dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(productEnv(cmd.Environ()), append(c.env, env...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start 'up': %w", err)
	}
	end := make(chan struct{})
	c.mu.Lock()
	c.up, c.end = cmd, end
	c.mu.Unlock()
	go func() {
		err := cmd.Wait()
		c.mu.Lock()
		c.err = err
		c.mu.Unlock()
		close(end)
	}()
	return nil
}

// productEnv leaves out what would change the product's settings behind the drill's back.
func productEnv(env []string) []string {
	var out []string
	for _, kv := range env {
		if !strings.HasPrefix(kv, "AUTOHEAL_") || strings.HasPrefix(kv, "AUTOHEAL_TEST_RUN=") {
			out = append(out, kv)
		}
	}
	return out
}

// kernelLogs is the folder of the files that stand for the kernel logs of nodes.
func (c *cluster) kernelLogs() string { return filepath.Join(c.dir, "kernel") }

func (c *cluster) log() string { return filepath.Join(c.dir, "up.log") }

func (c *cluster) ended() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.end
}

// endsWithin reports whether the present life of 'up' has ended, or does so soon: its door is shut before its end is seen.
func (c *cluster) endsWithin(d time.Duration) bool {
	select {
	case <-c.ended():
		return true
	case <-c.after(d):
		return false
	}
}

// died is the error for a life that ended when it should not have, with what it said last.
func (c *cluster) died() error {
	c.mu.Lock()
	err := c.err
	c.mu.Unlock()
	return fmt.Errorf("'up' ended (%v), its last words: %s", err, lastLines(string(readAll(c.log())), 5))
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], " | ")
}

func (c *cluster) ready(ctx context.Context, nodes int) (bool, error) {
	st, err := c.look(ctx)
	if err != nil {
		return false, err
	}
	n := 0
	for _, node := range st.Nodes {
		if node.Status == autoheal.StatusReady {
			n++
		}
	}
	return n == nodes && st.Healer.Synced, nil
}

func (c *cluster) after(d time.Duration) <-chan time.Time { return c.clock.NewTimer(d).C() }

// close ends everything by way of the janitor, and returns what it could not clean up.
func (c *cluster) close(keep bool) error {
	if c.changes != nil {
		c.changes.stop()
	}
	c.client.Close()
	if keep {
		if _, err := io.WriteString(c.leash, keepWord); err != nil {
			return fmt.Errorf("tell the janitor to keep the files: %w", err)
		}
	}
	err := c.leash.Close()
	if jerr := c.janitor.Wait(); jerr != nil {
		err = errors.Join(err, fmt.Errorf("clean up %s: %w (its words are above)", c.dir, jerr))
	}
	if end := c.ended(); end != nil {
		<-end
	}
	return err
}

// call asks the door.
func (c *cluster) call(ctx context.Context, verb string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := c.client.Call(ctx, verb, in, out); err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	return nil
}

// hold keeps a node's agent from being started again, or lets it.
func (c *cluster) hold(node autoheal.NodeID, on bool) error {
	path := filepath.Join(c.data, "agents", string(node)+".hold")
	if on {
		return os.WriteFile(path, nil, 0o600)
	}
	return os.Remove(path)
}

// processes lists the cluster's processes that match.
func (c *cluster) processes(match func(process) bool) ([]process, error) {
	all, err := c.proc.find(c.data)
	if err != nil {
		return nil, err
	}
	var out []process
	for _, p := range all {
		if match(p) {
			out = append(out, p)
		}
	}
	return out, nil
}

// signalAll signals every process that matches and returns how many there were.
func (c *cluster) signalAll(sig syscall.Signal, match func(process) bool) (int, error) {
	all, err := c.processes(match)
	if err != nil {
		return 0, err
	}
	for _, p := range all {
		if err := c.proc.signal(p, sig); err != nil {
			return 0, err
		}
	}
	return len(all), nil
}

// agentOf matches the agent of a node.
func agentOf(node autoheal.NodeID) func(process) bool {
	return func(p process) bool { return p.Role == roleAgent && p.Node == node }
}

// everythingOn matches agent, shims and workloads of a node.
func everythingOn(node autoheal.NodeID) func(process) bool {
	return func(p process) bool { return p.Node == node }
}

// upArgs are the arguments of 'up' for a drill.
func (c *cluster) upArgs(d Drill, p Profile) []string {
	args := []string{
		"up", "--data", c.data, "--nodes", strconv.Itoa(d.Nodes), "--simulate-gpus", "8:H100", "--cgroup", c.group,
	}
	if !d.Outlives {
		args = append(args, "--ephemeral")
	}
	settings := p.Settings
	if p.Name == Short().Name {
		settings = append(append([]string{}, settings...), d.Settings...)
	}
	for _, s := range d.Always {
		settings = append(settings[:len(settings):len(settings)], strings.ReplaceAll(s, "{dir}", c.dir))
	}
	for _, s := range settings {
		args = append(args, "--set", s)
	}
	if d.Kernel {
		args = append(args, "--kernel-log", c.kernelLogs())
	}
	for _, a := range d.Args {
		args = append(args, strings.ReplaceAll(a, "{dir}", c.dir))
	}
	return args
}
