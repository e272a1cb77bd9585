package network

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"autoheal.dev/autoheal/internal/clock"
	"autoheal.dev/autoheal/internal/nodeproto"
)

// tree writes files below a new folder that stands for /sys.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFactsOfHardware(t *testing.T) {
	f := Facts(tree(t, map[string]string{
		"class/net/lo/operstate":                                     "unknown\n",
		"class/net/veth1/operstate":                                  "up\n",
		"class/net/ens1/device/vendor":                               "0x15b3\n",
		"class/net/ens1/operstate":                                   "up\n",
		"class/net/ens1/carrier_changes":                             "7\n",
		"class/net/ens1/statistics/rx_errors":                        "3\n",
		"class/net/ens1/statistics/tx_errors":                        "1\n",
		"class/net/ens1/statistics/rx_dropped":                       "12\n",
		"class/infiniband/mlx5_0/ports/1/state":                      "1: DOWN\n",
		"class/infiniband/mlx5_0/ports/1/phys_state":                 "3: Disabled\n",
		"class/infiniband/mlx5_0/ports/1/counters/link_downed":       "2\n",
		"class/infiniband/mlx5_0/ports/1/counters/port_rcv_data":     "99\n",
		"class/infiniband/mlx5_0/ports/1/hw_counters/packet_seq_err": "5\n",
	}))
	want := "link ens1: up, 7 carrier changes, 4 errors, 12 drops\nrdma mlx5_0/1: DOWN Disabled, link_downed 2, packet_seq_err 5\n"
	if got := f.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// TestFactsSayWhatIsMissing: an absent source is written down, and no fault.
func TestFactsSayWhatIsMissing(t *testing.T) {
	f := Facts(tree(t, map[string]string{"class/net/lo/operstate": "unknown", "class/net/eth0/flags": "0x1003"}))
	if len(f.Links) != 1 || f.Links[0].State != "unknown" || f.Links[0].CarrierChanges != -1 || len(f.RDMA) != 0 {
		t.Errorf("%+v", f)
	}
	if text := f.String(); !strings.Contains(text, "carrier changes not available") || !strings.Contains(text, "rdma not available: ") {
		t.Errorf("got %s", text)
	}
	if f = Facts(t.TempDir()); len(f.Missing) != 2 || !strings.Contains(f.Missing[0], "links not available") {
		t.Errorf("without anything: %+v", f)
	}
}

func TestProbeReachesTheRightNode(t *testing.T) {
	port := func(name string) *Port {
		p, err := Listen(t.Context(), clock.Real{}, "127.0.0.1:0", name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
		return p
	}
	n2, n3 := port("n2"), port("n3")
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := closed.Addr().String()
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	pairs := Prober{Clock: clock.Real{}}.Probe(t.Context(), []nodeproto.Peer{
		{Node: "n2", Addresses: slices.Concat([]string{nobody}, n3.Addresses(), n2.Addresses())},
		{Node: "n4", Addresses: n3.Addresses()},
		{Node: "n5", Addresses: []string{nobody}},
		{Node: "n6"},
	}, 3)
	if p := pairs[0]; p.Node != "n2" || p.Sent != 3 || p.Lost != 0 {
		t.Errorf("a node that answers at its last address: %+v", p)
	}
	for n, why := range map[int]string{1: "another machine", 2: "nobody answers probes", 3: "tells no place"} {
		if p := pairs[n]; p.Sent != 0 || p.Lost != 0 || !strings.Contains(p.Reason, why) || !strings.HasPrefix(p.String(), "not available: ") {
			t.Errorf("%s: %+v, %s", why, p, p)
		}
	}
}

// TestProbeOfWhatDoesNotAnswer: silence is loss; a refusal, once it is known who is there, has been there and back.
func TestProbeOfWhatDoesNotAnswer(t *testing.T) {
	greeted := 0
	dial := func(_ context.Context, address string) (net.Conn, error) {
		switch address {
		case "dead:1":
			return nil, syscall.EHOSTUNREACH
		case "busy:1":
			if greeted++; greeted == 1 {
				here, there := net.Pipe()
				go func() {
					_, _ = there.Write([]byte(nodeproto.ProbeGreeting("n3")))
					_ = there.Close()
				}()
				return here, nil
			}
			return nil, syscall.ECONNREFUSED
		}
		t.Errorf("dialled %q", address)
		return nil, syscall.EINVAL
	}
	pairs := Prober{Clock: quick{}, Dial: dial}.Probe(t.Context(), []nodeproto.Peer{
		{Node: "n2", Addresses: []string{"dead:1"}}, {Node: "n3", Addresses: []string{"busy:1"}},
	}, 4)
	if p := pairs[0]; p.Sent != 4 || p.Lost != 4 || p.String() != "4 of 4 probes lost" {
		t.Errorf("unreachable: %+v", p)
	}
	if p := pairs[1]; p.Sent != 4 || p.Lost != 0 {
		t.Errorf("refused: %+v", p)
	}
}

// quick is a clock that waits for nothing.
type quick struct{ clock.Real }

func (quick) NewTimer(time.Duration) clock.Timer { return clock.Real{}.NewTimer(0) }

func TestLoopback(t *testing.T) {
	for url, want := range map[string]bool{
		"ws://127.0.0.1:18789": true, "wss://localhost": true, "ws://[::1]:9/x": true, "wss://gateway:18789": false, "ws://10.0.0.1:1": false, "": false,
	} {
		if got := Loopback(url); got != want {
			t.Errorf("%q: %v", url, got)
		}
	}
}
