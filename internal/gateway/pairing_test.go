package gateway_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"autoheal.dev/autoheal/internal/gateway"
	"autoheal.dev/autoheal/internal/openclaw"
)

func named(name string) func(openclaw.Event) bool {
	return func(e openclaw.Event) bool { return e.Name == name }
}

func decode[T any](t *testing.T, raw json.RawMessage) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return v
}

func wireErr(t *testing.T, err error) *openclaw.Error {
	t.Helper()
	var e *openclaw.Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v is not of the gateway", err)
	}
	return e
}

func TestPairingInTwoSteps(t *testing.T) {
	g := start(t, gateway.Options{ManualDevices: true, AllowCommands: []string{"echo"}})
	op := g.Operator()
	events, cancel := op.Events()
	defer cancel()
	waitEvent(t, events, named(openclaw.EventConnected))
	node(t, g, openclaw.NodeOptions{ConnectOptions: openclaw.ConnectOptions{Backoff: openclaw.Backoff{Slow: 1}}, Caps: []string{"gpu"}})

	dev := decode[openclaw.DevicePairRequest](t, waitEvent(t, events, named(openclaw.EventDevRequested)).Payload)
	if dev.DeviceID != identity(t, "n1").ID() || dev.DisplayName != "n1" || dev.Role != "node" {
		t.Errorf("device request %+v", dev)
	}
	if devices, _, _ := op.PairList(t.Context()); len(devices) != 1 || devices[0].RequestID != dev.RequestID {
		t.Fatalf("pending devices %+v: retries of the node must not pile up", devices)
	}
	if err := op.ApproveDevice(t.Context(), "nonsense"); wireErr(t, err).Message != "unknown requestId" {
		t.Error(err)
	}
	if err := op.ApproveDevice(t.Context(), dev.RequestID); err != nil {
		t.Fatal(err)
	}
	resolved := decode[openclaw.PairResolved](t, waitEvent(t, events, named(openclaw.EventDevResolved)).Payload)
	if resolved.Decision != "approved" || resolved.DeviceID != dev.DeviceID || resolved.RequestID != dev.RequestID {
		t.Errorf("resolved %+v", resolved)
	}

	surface := decode[openclaw.NodePairRequest](t, waitEvent(t, events, named(openclaw.EventNodeRequested)).Payload)
	if surface.NodeID != dev.DeviceID || len(surface.Commands) != 1 || surface.Commands[0] != "echo" || surface.Caps[0] != "gpu" {
		t.Errorf("surface request %+v", surface)
	}
	n := waitNode(t, op, func(n openclaw.NodeInfo) bool { return n.Connected })
	if n.ApprovalState != "pending-approval" || len(n.Commands) != 0 || n.Commands == nil || len(n.Caps) != 0 || n.PendingRequestID != surface.RequestID {
		t.Errorf("before approval %+v", n)
	}
	if err := op.ApproveNode(t.Context(), surface.RequestID); err != nil {
		t.Fatal(err)
	}
	if r := decode[openclaw.PairResolved](t, waitEvent(t, events, named(openclaw.EventNodeResolved)).Payload); r.NodeID != n.NodeID {
		t.Errorf("resolved %+v", r)
	}
	n, err := op.NodeDescribe(t.Context(), n.NodeID)
	if err != nil || n.ApprovalState != "approved" || len(n.Commands) != 1 || n.Caps[0] != "gpu" || !n.Connected {
		t.Errorf("approval did not work on the live connection: %+v, %v", n, err)
	}
	if _, nodes, _ := op.PairList(t.Context()); len(nodes) != 0 {
		t.Errorf("still pending: %+v", nodes)
	}
}

func TestScopesOfClawnodeCannotBeApproved(t *testing.T) {
	g := start(t, gateway.Options{})
	r, ch := dialRaw(t, g)
	p := params("n1", "echo")
	p.Scopes = []string{"node"}
	p.Prove(identity(t, "n1"), ch)
	f := r.connect(p)
	err := g.Operator().ApproveDevice(t.Context(), f.Error.Details.RequestID())
	if e := wireErr(t, err); e.Code != "INVALID_REQUEST" || e.Message != "invalid scope for requested roles: node" {
		t.Errorf("approval: %v", e)
	}
	if err := g.Operator().RejectDevice(t.Context(), f.Error.Details.RequestID()); err != nil {
		t.Error(err)
	}
	if devices, _, _ := g.Operator().PairList(t.Context()); len(devices) != 0 {
		t.Errorf("still pending: %+v", devices)
	}
	join(t, g, "n1") // with scopes [] it pairs
}

func TestWideningNeedsAnotherApproval(t *testing.T) {
	g := start(t, gateway.Options{AllowCommands: []string{"a", "b"}})
	op := g.Operator()
	approve := func() {
		t.Helper()
		_, nodes, err := op.PairList(t.Context())
		if err != nil || len(nodes) != 1 {
			t.Fatalf("pending %+v, %v", nodes, err)
		}
		if err := op.ApproveNode(t.Context(), nodes[0].RequestID); err != nil {
			t.Fatal(err)
		}
	}
	join(t, g, "n1", "a")
	approve()
	join(t, g, "n1", "a", "b") // replaces the first
	n := waitNode(t, op, func(n openclaw.NodeInfo) bool { return n.ApprovalState == "pending-reapproval" })
	if len(n.Commands) != 0 {
		t.Errorf("commands before the new approval: %v", n.Commands)
	}
	approve()
	n = waitNode(t, op, ready)
	if len(n.Commands) != 2 {
		t.Errorf("commands %v", n.Commands)
	}
	join(t, g, "n1", "b") // narrowing needs none
	n = waitNode(t, op, func(n openclaw.NodeInfo) bool { return len(n.Commands) == 1 })
	if n.Commands[0] != "b" || n.ApprovalState != "approved" {
		t.Errorf("after narrowing %+v", n)
	}
}

func TestEffectiveCommandsDependOnThePlatform(t *testing.T) {
	g := start(t, gateway.Options{AutoApprove: approveAll, AllowCommands: []string{"gpu.list"}})
	node(t, g, openclaw.NodeOptions{ConnectOptions: openclaw.ConnectOptions{Name: "a"}, Commands: []string{"system.run", "gpu.list", "gpu.metrics"}})
	node(t, g, openclaw.NodeOptions{ConnectOptions: openclaw.ConnectOptions{Name: "b", Platform: "linux x86_64"}, Commands: []string{"system.run", "gpu.list", "gpu.metrics"}})
	a := waitNode(t, g.Operator(), func(n openclaw.NodeInfo) bool { return n.DisplayName == "a" && ready(n) })
	b := waitNode(t, g.Operator(), func(n openclaw.NodeInfo) bool { return n.DisplayName == "b" && ready(n) })
	if got := strings.Join(a.Commands, " "); got != "system.run gpu.list" {
		t.Errorf("linux: %s", got)
	}
	if got := strings.Join(b.Commands, " "); got != "gpu.list" {
		t.Errorf("unknown platform: %s", got)
	}
}

func TestNameIsBoundToItsKey(t *testing.T) {
	g := start(t, gateway.Options{AutoApprove: approveAll})
	first := join(t, g, "n1", "echo")
	attempt := func(seed, name string) openclaw.Frame {
		r, ch := dialRaw(t, g)
		p := params(name, "echo")
		p.Prove(identity(t, seed), ch)
		return r.connect(p)
	}
	f := attempt("thief", "n1")
	if *f.OK || f.Error.Code != "NOT_PAIRED" || f.Error.Details.Code() != "NAME_BOUND" || f.Error.Details.Reason() != "name-bound" {
		t.Fatalf("another key took the name: %+v", f.Error)
	}
	if f = attempt("n1", "n2"); *f.OK || f.Error.Details.Code() != "NAME_BOUND" {
		t.Fatalf("a key changed its name: %+v", f.Error)
	}
	if nodes, _ := g.Operator().NodeList(t.Context()); len(nodes) != 1 || !nodes[0].Connected {
		t.Fatalf("nodes %+v", nodes)
	}
	if err := g.Forget("nobody"); err == nil {
		t.Error("an unknown name was forgotten")
	}
	if err := g.Forget("n1"); err != nil {
		t.Fatal(err)
	}
	if c := first.closed(); c.Code != 1008 || c.Reason != "device removed" {
		t.Errorf("closed %d %q", c.Code, c.Reason)
	}
	if f = attempt("thief", "n1"); !*f.OK {
		t.Errorf("the name was not freed: %v", f.Error)
	}
	if nodes, _ := g.Operator().NodeList(t.Context()); len(nodes) != 1 || nodes[0].NodeID != identity(t, "thief").ID() {
		t.Errorf("nodes %+v", nodes)
	}
}

func TestApprovalsSurviveARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pairs.json")
	open := func() *gateway.PairFile {
		s, err := gateway.OpenPairFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	g := start(t, gateway.Options{Store: open(), AutoApprove: approveAll, AllowCommands: []string{"echo"}})
	join(t, g, "n1", "echo")
	before := waitNode(t, g.Operator(), ready)
	stop(t, g)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("pair file %v, %v", info, err)
	}
	g = start(t, gateway.Options{Store: open(), ManualDevices: true, AllowCommands: []string{"echo"}})
	n, err := g.Operator().NodeDescribe(t.Context(), before.NodeID)
	if err != nil || n.Connected || !n.Paired || n.LastConnectedAtMs != before.ConnectedAtMs || n.LastDisconnectedAtMs == 0 ||
		n.ApprovalState != "approved" || n.ApprovedAtMs != before.ApprovedAtMs {
		t.Errorf("after the restart %+v, before %+v, %v", n, before, err)
	}
	join(t, g, "n1", "echo") // neither approval is asked again
	waitNode(t, g.Operator(), ready)
	stop(t, g)

	for content, want := range map[string]string{"{": "unexpected end", `{"version":9}`: "version 9"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		bad := gateway.New(gateway.Options{Listen: "127.0.0.1:0", Token: token, Store: open()})
		if err := bad.Start(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("content %q: %v", content, err)
		}
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := open().Load(); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a file of others was trusted: %v", err)
	}
}

// failingStore refuses to save.
type failingStore struct{}

func (failingStore) Load() (gateway.State, error) { return gateway.State{Version: 1}, nil }
func (failingStore) Save(gateway.State) error     { return errors.New("no space left on device") }

func TestAnApprovalThatCannotBeSavedIsNone(t *testing.T) {
	g := gateway.New(gateway.Options{Listen: "127.0.0.1:0", Token: token, Store: failingStore{}, Logger: testLog(t)})
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := g.Stop(t.Context()); err == nil {
			t.Error("stop hid that the approvals could not be saved")
		}
	}()
	r, ch := dialRaw(t, g)
	p := params("n1", "echo")
	p.Prove(identity(t, "n1"), ch)
	if f := r.connect(p); *f.OK || f.Error.Code != "UNAVAILABLE" || !f.Error.Retryable || !strings.Contains(f.Error.Message, "no space left") {
		t.Errorf("answer %+v", f.Error)
	}
	if c := r.closed(); c.Code != 1013 {
		t.Errorf("closed %d", c.Code)
	}
	if nodes, _ := g.Operator().NodeList(t.Context()); len(nodes) != 0 {
		t.Errorf("nodes %+v", nodes)
	}
}
