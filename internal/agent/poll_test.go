package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/agent/sense"
	"autoheal.dev/autoheal/internal/agent/shim"
	"autoheal.dev/autoheal/internal/clock"
	"autoheal.dev/autoheal/internal/nodeproto"
	"autoheal.dev/autoheal/internal/openclaw"
	"autoheal.dev/autoheal/internal/signal"
)

// bareAgent has no folder, no shims and virtual time.
func bareAgent(t testing.TB) *Agent {
	t.Helper()
	begin := time.Now()
	catalogue, err := signal.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	hears := &listener{}
	hears.catalogue.Store(catalogue)
	return &Agent{
		hears: hears,
		log:   slog.New(slog.DiscardHandler), clk: clock.Real{}, boot: func() time.Duration { return time.Hour + time.Since(begin) },
		life: "life-1", bootID: "boot-1", ctx: t.Context(), epoch: &epochFile{path: filepath.Join(t.TempDir(), "epoch")},
		attempts: map[key]*attempt{}, floors: map[autoheal.WorkloadID]int{}, starting: map[key]*nodeproto.StartRequest{},
		changed: make(chan struct{}), poll: make(chan struct{}), busy: map[int64]string{}, reported: map[autoheal.GPUID]reported{},
		minors: map[autoheal.GPUID]int{}, shut: map[autoheal.GPUID]autoheal.ActionID{}, jobs: jobBook{path: filepath.Join(t.TempDir(), "jobs.json")},
	}
}

// list adds an attempt that runs.
func (a *Agent) list(id string, detail string) {
	spec := &shim.Spec{BootID: a.bootID, Start: nodeproto.StartRequest{Workload: autoheal.WorkloadID(id), Attempt: 1}}
	at := a.newAttempt(key{autoheal.WorkloadID(id), 1}, "", spec)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.attempts[at.key] = at
	a.setViewLocked(at, &view{start: &spec.Start, spec: spec, state: nodeproto.AttemptRunning, detail: detail})
}

// ask polls without waiting.
func ask(t *testing.T, a *Agent, req nodeproto.PollRequest) *nodeproto.PollResponse {
	t.Helper()
	req.Epoch = 1
	r, err := a.doPoll(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > nodeproto.MaxAnswerBytes {
		t.Fatalf("an answer of %d bytes", len(data))
	}
	return r
}

func TestPollListsInPagesThenTellsChanges(t *testing.T) {
	a := bareAgent(t)
	for i := range 600 {
		a.list(fmt.Sprintf("wl-%04d", i), strings.Repeat("x", maxDetail))
	}
	got := map[autoheal.WorkloadID]bool{}
	req := nodeproto.PollRequest{}
	pages := 0
	for {
		r := ask(t, a, req)
		if !r.Full || (r.Node != nil) != (pages == 0) {
			t.Fatalf("page %d: full %v, node %v", pages, r.Full, r.Node != nil)
		}
		again := ask(t, a, req) // an answer that was lost is asked for again
		if req.After > 0 && again.Seq != r.Seq {
			t.Fatalf("page %d again is %d, was %d", pages, again.Seq, r.Seq)
		}
		for _, w := range again.Workloads {
			got[w.Workload] = true
		}
		pages++
		req.Life, req.After = r.Life, again.Seq
		if !again.More {
			break
		}
		if pages == 1 {
			a.list("wl-late", "came while the listing was told")
		}
	}
	if len(got) != 600 || pages < 3 {
		t.Errorf("%d workloads in %d pages", len(got), pages)
	}
	r := ask(t, a, req)
	if r.Full || len(r.Changes) != 1 || r.Changes[0].Workload.Workload != "wl-late" {
		t.Errorf("after the listing: full %v, %d changes", r.Full, len(r.Changes))
	}
	if again := ask(t, a, req); len(again.Changes) != 1 {
		t.Error("reading consumed a change")
	}
}

func TestPollSplitsManyChanges(t *testing.T) {
	a := bareAgent(t)
	first := ask(t, a, nodeproto.PollRequest{})
	for i := range 1000 {
		a.list(fmt.Sprintf("wl-%04d", i), strings.Repeat("y", maxDetail))
	}
	req := nodeproto.PollRequest{Life: a.life, After: first.Seq}
	seen := 0
	for {
		r := ask(t, a, req)
		if r.Full {
			t.Fatal("a full listing though nothing fell out")
		}
		seen += len(r.Changes)
		req.After = r.Seq
		if !r.More {
			break
		}
	}
	if seen != 1000 {
		t.Errorf("%d changes", seen)
	}
}

func TestPollListsAgainWhenChangesFellOut(t *testing.T) {
	a := bareAgent(t)
	first := ask(t, a, nodeproto.PollRequest{})
	a.list("wl-1", "")
	for range ringSize + 10 {
		a.mu.Lock()
		a.emitLocked(autoheal.Signal{Rule: "test"}, a.boot())
		a.mu.Unlock()
	}
	r := ask(t, a, nodeproto.PollRequest{Life: a.life, After: first.Seq})
	if !r.Full || r.Dropped != 11 || len(r.Workloads) != 1 {
		t.Errorf("full %v, dropped %d, %d workloads", r.Full, r.Dropped, len(r.Workloads))
	}
}

// A workload that writes whatever it likes neither makes an answer too large nor writes away what the kernel said.
func TestListingKeepsWhatTheKernelSaid(t *testing.T) {
	a := bareAgent(t)
	a.kernelSays(autoheal.Signal{Rule: "nvidia/xid/79", Subject: autoheal.Ref{Kind: autoheal.RefGPU, ID: "0000:05:00"}}, a.boot())
	for i := range 4 * maxStanding {
		a.mu.Lock()
		a.emitLocked(autoheal.Signal{
			Rule: "python/exception", Subject: autoheal.WorkloadRef("wl-1"), Excerpt: fmt.Sprint(i, strings.Repeat("<", 2<<10)),
		}, a.boot())
		a.mu.Unlock()
	}
	r := ask(t, a, nodeproto.PollRequest{})
	if size := jsonSize(r); size > nodeproto.MaxAnswerBytes {
		t.Errorf("the answer has %d bytes", size)
	}
	if len(r.Standing) < 2 || r.Standing[0].Signal.Rule != "nvidia/xid/79" {
		t.Errorf("%d signals stand, the Xid is not the first", len(r.Standing))
	}
}

func TestPollOfAnotherLifeListsAndAcknowledgesNothing(t *testing.T) {
	a := bareAgent(t)
	for range 5 {
		ask(t, a, nodeproto.PollRequest{})
	}
	r := ask(t, a, nodeproto.PollRequest{Life: "life-0", Ack: 3, After: 2, SelfStopMS: 60_000})
	if !r.Full || a.lease.acked != 0 || a.lease.deadline != 0 {
		t.Errorf("full %v, acked %d, deadline %s", r.Full, a.lease.acked, a.lease.deadline)
	}
	ask(t, a, nodeproto.PollRequest{Life: a.life, Ack: 3, SelfStopMS: 60_000})
	if a.lease.acked != 3 || a.lease.deadline == 0 {
		t.Errorf("acked %d, deadline %s", a.lease.acked, a.lease.deadline)
	}
}

func TestPollHeartbeatAndSupersession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := bareAgent(t)
		first := ask(t, a, nodeproto.PollRequest{})
		req := nodeproto.PollRequest{Epoch: 1, Life: a.life, After: first.Seq, WaitMS: 15_000}
		began := time.Now()
		r, err := a.doPoll(t.Context(), req)
		if err != nil || len(r.Changes) > 0 || r.Full || time.Since(began) != 15*time.Second {
			t.Errorf("heartbeat %+v, %v after %s", r, err, time.Since(began))
		}
		if r.N != first.N+1 || r.Seq != first.Seq {
			t.Errorf("heartbeat is numbered %d after %d, seq %d", r.N, first.N, r.Seq)
		}

		answers := make(chan *nodeproto.PollResponse, 2)
		for range 2 {
			go func() {
				r, err := a.doPoll(t.Context(), req)
				if err != nil {
					t.Error(err)
				}
				answers <- r
			}()
			synctest.Wait()
		}
		if r := <-answers; len(r.Changes) > 0 || r.Full {
			t.Errorf("the superseded poll is answered with %+v", r)
		}
		a.list("wl-1", "")
		if r := <-answers; len(r.Changes) != 1 || r.Changes[0].AgeMS != 0 {
			t.Errorf("the newer poll is answered with %+v", r)
		}
	})
}

func TestStatusKnowsBusy(t *testing.T) {
	a := bareAgent(t)
	done := a.markBusy(nodeproto.CmdCollect)
	r, err := a.doStatus(t.Context(), nodeproto.StatusRequest{})
	if err != nil || len(r.Busy) != 1 || r.Busy[0] != nodeproto.CmdCollect || r.Life != a.life {
		t.Errorf("%+v, %v", r, err)
	}
	done()
	if r, _ := a.doStatus(t.Context(), nodeproto.StatusRequest{}); len(r.Busy) != 0 {
		t.Errorf("busy with %v", r.Busy)
	}
}

func TestEpoch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "epoch")
	e, err := openEpoch(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.admit(7); err != nil {
		t.Fatal(err)
	}
	if again, err := openEpoch(path); err != nil || again.check(6) == nil || again.check(7) != nil {
		t.Errorf("after a restart: %v", err)
	}
	if err := e.admit(6); !errors.Is(err, errStaleEpoch) {
		t.Errorf("epoch 6 after 7: %v", err)
	}
	gone, err := openEpoch(filepath.Join(t.TempDir(), "missing", "epoch"))
	if err != nil {
		t.Fatal(err)
	}
	if err := gone.admit(1); err == nil || gone.seen.Load() != 0 {
		t.Errorf("an epoch that cannot be written is admitted: %v", err)
	}
}

func TestStaleEpochHasItsCode(t *testing.T) {
	a := bareAgent(t)
	if err := a.epoch.admit(5); err != nil {
		t.Fatal(err)
	}
	for _, command := range nodeproto.Commands() {
		if command == nodeproto.CmdLogs {
			continue // it only reads
		}
		_, err := serveCommand(t.Context(), a, command, `{"epoch":4,"workload":"wl-1","attempt":1}`)
		if err == nil || !strings.HasPrefix(err.Error(), nodeproto.CodeStaleEpoch+":") {
			t.Errorf("%s: %v", command, err)
		}
	}
}

func serveCommand(ctx context.Context, a *Agent, command, params string) (json.RawMessage, error) {
	return a.handle(ctx, invoke(command, params))
}

// TestOnlyRefusalRenews: a gateway whose process is gone stops nothing; silence, resets and rejections prove nothing, nor
// does a refusal while the healer lives, which is a firewall's.
func TestOnlyRefusalRenews(t *testing.T) {
	free, held := healerLock(t), healerLock(t)
	holder, err := os.Open(held)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	for lock, renews := range map[string]bool{free: true, held: false, filepath.Join(t.TempDir(), "none"): false, "": false} {
		a := bareAgent(t)
		a.opts.HealerLock = lock
		ask(t, a, nodeproto.PollRequest{SelfStopMS: 60_000})
		for _, s := range []openclaw.ConnState{openclaw.StateConnected, openclaw.StateDisconnected, openclaw.StateRejected} {
			a.connection(s, errors.New("reset by peer"))
		}
		if a.lease.deadline != 0 {
			t.Error("the lease was renewed without a refusal")
		}
		a.connection(openclaw.StateRefused, errors.New("connection refused"))
		if (a.lease.deadline > 0) != renews {
			t.Errorf("lock %q: renewed by a refusal: %v, want %v", lock, a.lease.deadline > 0, renews)
		}
	}
}

// healerLock makes a lock file that nobody holds.
func healerLock(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lock")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestRefusalRenewsForAnAdoptedShim: this life has not heard how long the lease is; its shims have.
func TestRefusalRenewsForAnAdoptedShim(t *testing.T) {
	a := bareAgent(t)
	a.opts.HealerLock = healerLock(t)
	a.list("wl-1", "")
	at := a.attempts[key{"wl-1", 1}]
	at.spec.Start.AtMostOnce = true
	a.mu.Lock()
	a.heardLocked(at, shim.Status{State: nodeproto.AttemptRunning, Lease: shim.Lease{Enforced: true, At: 1, SelfStopMS: 60_000}})
	a.mu.Unlock()
	a.connection(openclaw.StateRefused, errors.New("connection refused"))
	r := a.renewal(at)
	if r.Op != shim.OpRenew || !r.Lease.Enforced || r.Lease.At != int64(a.lease.deadline) || r.Lease.SelfStopMS != 60_000 {
		t.Errorf("renewal %+v", r)
	}
}

// A site's own rules come with the poll until the answer names them; rules that cannot be taken are named, too, and said.
func TestPollTakesTheRulesOfTheSite(t *testing.T) {
	a := bareAgent(t)
	a.node.Conditions = map[string]string{}
	a.hears.ear = sense.NewEar(a.hears.catalogue.Load(), signal.KindKernel, func(autoheal.Signal, time.Duration) {})
	says := func(line string) (signal.Match, bool) {
		return a.hears.catalogue.Load().Match([]byte(line), signal.KindWorkload)
	}
	const line = "frobnicator: lost its marbles"
	if _, ok := says(line); ok {
		t.Fatal("the line is known already")
	}
	rule := map[string]any{
		"id": "site/frob", "kind": "workload", "literals": []any{"lost its marbles"}, "pattern": "lost its marbles", "name": "marbles", "failure": "app_fault",
		"scope": "workload", "action": "fix_code", "severity": "error", "because": "Ours.", "source": "ours", "samples": []any{line},
	}
	if r := ask(t, a, nodeproto.PollRequest{RulesHash: "h1"}); r.RulesHash != "" { // named, but not brought along
		t.Errorf("takes %q", r.RulesHash)
	}
	if r := ask(t, a, nodeproto.PollRequest{RulesHash: "h1", Rules: &nodeproto.Rules{Rules: []map[string]any{rule}}}); r.RulesHash != "h1" {
		t.Errorf("takes %q", r.RulesHash)
	}
	if m, ok := says(line); !ok || m.Code != "site/frob" {
		t.Errorf("the rule is not in force: %+v", m)
	}
	r := ask(t, a, nodeproto.PollRequest{RulesHash: "h2", Rules: &nodeproto.Rules{Rules: []map[string]any{{"id": "site/broken", "pattern": "("}}}})
	if _, ok := says(line); r.RulesHash != "h2" || !ok || a.node.Conditions[condRules] == "" {
		t.Errorf("broken rules: hash %q, the earlier ones in force: %v, condition %q", r.RulesHash, ok, a.node.Conditions[condRules])
	}
	if r := ask(t, a, nodeproto.PollRequest{}); r.RulesHash != "" || a.node.Conditions[condRules] != "" {
		t.Errorf("no rules any more: hash %q, condition %q", r.RulesHash, a.node.Conditions[condRules])
	}
	if _, ok := says(line); ok {
		t.Error("the rule is still in force")
	}
}
