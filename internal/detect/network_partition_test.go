package detect

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/signal"
)

var detectedAt = time.Unix(1000, 0)

// gang makes a gang of n ranks that run, each on a node of its own.
func gang(n int) fakeView {
	v := fakeView{gang: map[autoheal.GangID][]*autoheal.Workload{}, said: map[autoheal.WorkloadID][]autoheal.Signal{}, node: map[autoheal.NodeID]*autoheal.Node{}}
	for r := range n {
		w := &autoheal.Workload{
			ID: autoheal.WorkloadID(fmt.Sprintf("g-%d", r)), Gang: "g", GangSize: n, Rank: r, Attempt: 1, Node: autoheal.NodeID(fmt.Sprintf("n%d", r+1)),
			State: autoheal.Running, Desired: autoheal.DesiredRunning,
		}
		v.gang["g"] = append(v.gang["g"], w)
		v.node[w.Node] = &autoheal.Node{ID: w.Node, BootID: "b", Addresses: []string{"host", fmt.Sprintf("10.0.0.%d", r+1)}}
	}
	return v
}

// says has a rank write a line, so long before now.
func (v fakeView) says(t *testing.T, rank int, ago time.Duration, line string) {
	t.Helper()
	m, ok := v.Catalogue().Match([]byte(line), signal.KindWorkload)
	if !ok {
		t.Fatalf("no rule knows %q", line)
	}
	w := v.gang["g"][rank]
	v.said[w.ID] = append(v.said[w.ID], autoheal.Signal{Rule: m.Code, Failure: m.Failure, Action: m.Action, Fields: m.Fields, Subject: w.Ref(), At: detectedAt.Add(-ago), Excerpt: line})
}

func (v fakeView) ends(rank int, ago time.Duration, verdict *autoheal.Verdict) {
	w := v.gang["g"][rank]
	w.State, w.EndedAt, w.Exit = autoheal.Failed, detectedAt.Add(-ago), &autoheal.Exit{Code: 1, Reason: autoheal.ExitCrashed, Verdict: verdict}
}

const closedBy = "n1:1:2 [0] NCCL WARN NET/Socket: socketProgress: Connection closed by remote peer %s<57557>"

func timeout(rank int) string {
	return fmt.Sprintf("[rank%d]:[E321 ProcessGroupNCCL.cpp:607] [Rank %d] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7, OpType=ALLREDUCE, NumelIn=1, NumelOut=1, Timeout(ms)=600000) ran for 600060 milliseconds before timing out.", rank, rank)
}

var lostPeer = &autoheal.Verdict{Failure: autoheal.FailureNetwork, Code: "pytorch/watchdog_timeout", Action: autoheal.AdviceCheckNetwork}

func TestWhenRanksHaveLostEachOther(t *testing.T) {
	for _, c := range []struct {
		name    string
		size    int
		set     func(t *testing.T, v fakeView)
		broken  bool
		culprit string // node; "" = nobody
		suspect int    // how many suspects
	}{
		{"nothing was said", 4, func(*testing.T, fakeView) {}, false, "", 0},
		{"one rank says so and lives", 4, func(t *testing.T, v fakeView) { v.says(t, 0, time.Second, timeout(0)) }, false, "", 0},
		{"one of two says so and lives", 2, func(t *testing.T, v fakeView) { v.says(t, 0, time.Second, timeout(0)) }, true, "n2", 1},
		{"three wait for the fourth, all alive", 4, func(t *testing.T, v fakeView) {
			for _, r := range []int{0, 1, 3} {
				v.says(t, r, time.Second, timeout(r))
			}
		}, true, "n3", 1},
		{"one has ended because of it", 4, func(t *testing.T, v fakeView) { v.ends(0, 0, lostPeer) }, true, "", 0},
		{"two say so, too long ago", 4, func(t *testing.T, v fakeView) {
			v.says(t, 0, 6*time.Minute, timeout(0))
			v.says(t, 1, 6*time.Minute, timeout(1))
		}, false, "", 0},
		{"what an end says does not age", 4, func(t *testing.T, v fakeView) {
			for _, r := range []int{0, 1, 3} {
				v.says(t, r, 6*time.Minute, timeout(r))
				v.ends(r, 6*time.Minute, lostPeer)
			}
		}, true, "n3", 1},
		{"a warning is no loss", 2, func(t *testing.T, v fakeView) { v.says(t, 0, time.Second, fmt.Sprintf(closedBy, "10.0.0.2")) }, false, "", 0},
		{"their launcher starts them again", 2, func(t *testing.T, v fakeView) {
			v.says(t, 0, 2*time.Second, timeout(0))
			v.says(t, 0, time.Second, "[default] Worker group FAILED. 3/3 attempts left; will restart worker group")
		}, false, "", 0},
		{"each of two names the other", 2, func(t *testing.T, v fakeView) {
			for r, peer := range []string{"10.0.0.2", "10.0.0.1"} {
				v.says(t, r, time.Second, fmt.Sprintf(closedBy, peer))
				v.ends(r, 0, &autoheal.Verdict{Failure: autoheal.FailureNetwork, Code: "nccl/peer_closed"})
			}
		}, true, "", 2},
		{"an address that two nodes have names nobody", 3, func(t *testing.T, v fakeView) {
			v.says(t, 0, time.Second, fmt.Sprintf(closedBy, "host"))
			v.ends(0, 0, lostPeer)
		}, true, "", 0},
		{"a rank that had completed is nobody's culprit", 3, func(t *testing.T, v fakeView) {
			v.gang["g"][2].State = autoheal.Succeeded
			v.says(t, 0, time.Second, timeout(0))
			v.says(t, 1, time.Second, timeout(1))
		}, true, "", 0},
		{"its ranks are of two generations", 2, func(t *testing.T, v fakeView) {
			v.says(t, 0, time.Second, timeout(0))
			v.gang["g"][1].Attempt = 2
		}, false, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := gang(c.size)
			c.set(t, v)
			r, _ := ReportGang(v, "g", detectedAt)
			node := ""
			if r.Culprit != nil {
				node = string(r.Culprit.Node)
			}
			if r.Broken != c.broken || r.Broken && (node != c.culprit || len(r.Suspects) != c.suspect) {
				t.Errorf("broken %v, culprit %q, %d suspects (%s); want %v, %q, %d", r.Broken, node, len(r.Suspects), r.Because, c.broken, c.culprit, c.suspect)
			}
			fs := networkPartition{}.Detect(v, Change{Workload: v.gang["g"][0]}, detectedAt)
			if (len(fs) == 1) != c.broken {
				t.Errorf("claims %+v", fs)
			}
		})
	}
}

// TestACrashIsNoPartition: whoever failed by itself, for whatever reason, has crashed; the others' losses follow from it.
func TestACrashIsNoPartition(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(t *testing.T, v fakeView)
	}{
		{"a traceback of its own", func(t *testing.T, v fakeView) {
			v.says(t, 2, 8*time.Second, "ValueError: checkpoint is truncated")
			v.ends(2, 8*time.Second, &autoheal.Verdict{Failure: autoheal.FailureApp, Code: "python/exception"})
		}},
		{"a server outside of the job", func(t *testing.T, v fakeView) {
			v.ends(2, 8*time.Second, &autoheal.Verdict{Failure: autoheal.FailureNetwork, Code: "python/connect"})
		}},
		{"an image that cannot be had", func(t *testing.T, v fakeView) {
			v.ends(2, 8*time.Second, &autoheal.Verdict{Failure: autoheal.FailureNetwork, Code: "container/image_unreachable"})
		}},
		{"killed without a word, first", func(t *testing.T, v fakeView) { v.ends(2, 8*time.Second, nil) }},
		{"its shim was killed", func(t *testing.T, v fakeView) {
			v.ends(2, 8*time.Second, nil)
			v.gang["g"][2].Exit.Reason = autoheal.ExitShimKilled
		}},
		{"out of memory", func(t *testing.T, v fakeView) {
			v.ends(2, time.Second, nil)
			v.gang["g"][2].Exit.OOM = autoheal.OOMHostCgroup
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := gang(4)
			c.set(t, v)
			for _, r := range []int{0, 1, 3} {
				v.says(t, r, 2*time.Second, timeout(r))
				v.ends(r, time.Second, lostPeer)
			}
			r, ok := ReportGang(v, "g", detectedAt)
			if !ok || r.Broken || !r.Crashed || r.Culprit != nil {
				t.Fatalf("%+v", r)
			}
			var kinds []string
			for _, f := range found(v, Change{Workload: v.gang["g"][2]}) {
				kinds = append(kinds, string(f.Kind))
			}
			if strings.Join(kinds, " ") != string(autoheal.CrashLoop) {
				t.Errorf("claimed %v", kinds)
			}
		})
	}
}

// TestLastToEndIsNoCrash: what ends without a word long after the others have complained is one more victim.
func TestLastToEndIsNoCrash(t *testing.T) {
	v := gang(4)
	for _, r := range []int{0, 1, 3} {
		v.says(t, r, 20*time.Second, timeout(r))
		v.ends(r, 18*time.Second, lostPeer)
	}
	v.ends(2, time.Second, nil)
	r, _ := ReportGang(v, "g", detectedAt)
	if !r.Broken || r.Culprit == nil || r.Culprit.Node != "n3" {
		t.Errorf("%+v", r)
	}
	if fs := found(v, Change{Workload: v.gang["g"][0]}); len(fs) != 1 || fs[0].Kind != autoheal.NetworkPartition || !fs[0].Conclusive {
		t.Errorf("claimed %+v", fs)
	}
}

func TestLinks(t *testing.T) {
	v := gang(1)
	v.gang = nil
	line := func(text string, clears bool) *autoheal.Signal {
		m, ok := v.Catalogue().Match([]byte(text), signal.KindKernel)
		if !ok {
			t.Fatalf("no rule knows %q", text)
		}
		return &autoheal.Signal{Rule: m.Code, Failure: m.Failure, Subject: v.node["n1"].Ref(), At: detectedAt, Excerpt: text, Clears: clears}
	}
	claims := func(s *autoheal.Signal) []autoheal.Finding {
		return networkPartition{}.Detect(v, Change{Signal: s}, detectedAt)
	}
	down := "mlx5_core 0000:5c:00.0 ens1f0np0: Link down"
	if fs := claims(line(down, false)); len(fs) != 1 || fs[0].Conclusive || fs[0].Withdrawn || fs[0].Subject.ID != "n1" {
		t.Errorf("a link that is lost: %+v", fs)
	}
	if fs := claims(line(down, true)); len(fs) != 1 || !fs[0].Withdrawn {
		t.Errorf("a link that is back: %+v", fs)
	}
	if fs := claims(line("mlx5_core 0000:5c:00.0: mlx5_health_report:1: unrecoverable hardware error", false)); len(fs) != 1 || !fs[0].Conclusive {
		t.Errorf("an adapter that has failed: %+v", fs)
	}
	if fs := claims(line("nfs: server 10.0.0.1 not responding, timed out", false)); len(fs) != 0 {
		t.Errorf("a file server: %+v", fs)
	}
	old := line(down, false)
	old.Subject.Generation = "another boot"
	if fs := claims(old); len(fs) != 0 {
		t.Errorf("of another boot: %+v", fs)
	}
	forged := line(down, false)
	forged.Subject = autoheal.Ref{Kind: autoheal.RefWorkload, ID: "g-0", Generation: "1"}
	if fs := claims(forged); len(fs) != 0 {
		t.Errorf("what a workload writes says nothing of its node: %+v", fs)
	}
	if IsLink(v.Catalogue(), &autoheal.Signal{Rule: "nccl/ib_async_fatal", Failure: autoheal.FailureNetwork}) {
		t.Error("the words of a library are no words of the kernel")
	}
}
