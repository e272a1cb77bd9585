package signal

import (
	"slices"
	"strings"
	"testing"
	"time"

	"autoheal.dev/autoheal"
)

// said is one member's report: its lines, each a second after the one before, from a second of the test on.
type said struct {
	member    int
	from      int
	addresses []string
	text      string
}

var gangStart = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func gangOf(c *Catalogue, members, ranks int, reports []said) Gang {
	g := Gang{Members: members, Ranks: ranks}
	for _, r := range reports {
		report := Report{Member: r.member, Addresses: r.addresses}
		for _, f := range c.Excerpt([]byte(strings.TrimSpace(r.text)), KindWorkload, nil) {
			s := f.Signal()
			s.At = gangStart.Add(time.Duration(r.from+f.Line) * time.Second)
			report.Signals = append(report.Signals, s)
		}
		g.Reports = append(g.Reports, report)
	}
	return g
}

// timeouts writes the line of a watchdog for each rank.
func timeouts(ranks ...string) string {
	var b strings.Builder
	for _, r := range ranks {
		b.WriteString("[rank" + r + "]:[E321 02:07:08.408271257 ProcessGroupNCCL.cpp:607] [Rank " + r + "] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=1580, OpType=ALLREDUCE, NumelIn=466119168, NumelOut=466119168, Timeout(ms)=600000) ran for 600060 milliseconds before timing out.\n")
	}
	return b.String()
}

func progressLine(rank, at, enqueued, completed string) string {
	return "[rank" + rank + "]:[E626 06:24:44.906457629 ProcessGroupNCCL.cpp:1785] [PG ID 0 PG GUID 0(default_pg) Rank " + rank + "] Exception (either an error or timeout) detected by watchdog at work: " + at + ", last enqueued NCCL work: " + enqueued + ", last completed NCCL work: " + completed + ".\n"
}

// culpritCase is what the members of a gang said, and whom it gives away.
type culpritCase struct {
	name           string
	members, ranks int
	reports        []said
	role           Role
	member         int
	ranksNamed     []int
	suspects       []int
	sure           float64
	peer, because  string
}

// waitingCases are told by who waits in which collective.
func waitingCases() []culpritCase {
	return []culpritCase{
		{
			name: "one rank of eight on one node does not wait", members: 2, ranks: 8,
			reports: []said{{member: 0, text: timeouts("0", "1", "2", "3")}, {member: 1, text: timeouts("4", "5", "7")}},
			role:    RoleMissing, member: 1, ranksNamed: []int{6}, sure: sureMissing, because: "7 processes wait in a collective, and rank 6 is not among them",
		},
		{
			name: "a whole node is missing", members: 4,
			reports: []said{{member: 0, text: timeouts("0")}, {member: 1, text: timeouts("1")}, {member: 3, text: timeouts("3")}},
			role:    RoleMissing, member: 2, ranksNamed: []int{2}, sure: sureMissing, because: "rank 2 is not among them",
		},
		{
			name: "one of two waits", members: 2,
			reports: []said{{member: 0, text: timeouts("0")}},
			role:    RoleMissing, member: 1, ranksNamed: []int{1}, sure: sureMissingOfOne, because: "rank 1 is not among them",
		},
		{
			name: "all wait: nobody", members: 2, ranks: 4,
			reports: []said{{member: 0, text: timeouts("0", "1")}, {member: 1, text: timeouts("2", "3")}},
			member:  -1, because: "no member differs",
		},
		{
			name: "more are missing than wait: nobody", members: 4,
			reports: []said{{member: 1, text: timeouts("1")}},
			member:  -1, because: "no member differs",
		},
		{
			name: "two nodes are missing: suspects, nobody", members: 8,
			reports: []said{
				{member: 0, text: timeouts("0")},
				{member: 1, text: timeouts("1")},
				{member: 2, text: timeouts("2")},
				{member: 3, text: timeouts("3")},
				{member: 6, text: timeouts("6")},
				{member: 7, text: timeouts("7")},
			},
			member: -1, suspects: []int{4, 5}, because: "rank 4, rank 5",
		},
		{
			name: "a rank has begun fewer collectives", members: 4,
			reports: []said{
				{member: 0, text: progressLine("0", "808", "811", "807")},
				{member: 1, text: progressLine("1", "808", "811", "807")},
				{member: 2, text: progressLine("2", "807", "807", "806")},
				{member: 3, text: progressLine("3", "808", "811", "807")},
			},
			role: RoleBehind, member: 2, ranksNamed: []int{2}, sure: sureBehind, because: "rank 2 has begun 807 collectives, others 811",
		},
		{
			name: "all have begun it, one has finished less", members: 3,
			reports: []said{
				{member: 0, text: progressLine("0", "5", "5", "4")},
				{member: 1, text: progressLine("1", "5", "5", "3")},
				{member: 2, text: progressLine("2", "5", "5", "4")},
			},
			role: RoleBehind, member: 1, ranksNamed: []int{1}, sure: sureIncomplete, because: "rank 1 has finished 3 collectives, others 4",
		},
		{
			name: "the rank that the launcher gives stands above that in a process group", members: 4,
			reports: []said{
				{member: 0, text: "[rank0]:[E ProcessGroupNCCL.cpp:1537] [PG 5 Rank 0] Timeout at NCCL work: 9, last enqueued NCCL work: 9, last completed NCCL work: 8."},
				{member: 1, text: "[rank1]:[E ProcessGroupNCCL.cpp:1537] [PG 5 Rank 0] Timeout at NCCL work: 9, last enqueued NCCL work: 9, last completed NCCL work: 8."},
				{member: 2, text: "[rank2]:[E ProcessGroupNCCL.cpp:1537] [PG 5 Rank 1] Timeout at NCCL work: 9, last enqueued NCCL work: 9, last completed NCCL work: 8."},
			},
			role: RoleMissing, member: 3, ranksNamed: []int{3}, sure: sureMissing, because: "rank 3 is not among them",
		},
		{
			name: "half are behind the other half: nobody", members: 4,
			reports: []said{
				{member: 0, text: progressLine("0", "808", "811", "807")},
				{member: 1, text: progressLine("1", "808", "811", "807")},
				{member: 2, text: progressLine("2", "807", "807", "807")},
				{member: 3, text: progressLine("3", "807", "807", "807")},
			},
			member: -1, because: "no member differs",
		},
		{
			name: "ranks that call different collectives are the program's fault", members: 2,
			reports: []said{
				{member: 0, text: timeouts("0")},
				{member: 1, text: strings.ReplaceAll(timeouts("1"), "ALLREDUCE", "BROADCAST")},
			},
			member: -1, because: "in collective 1580 some wait in ALLREDUCE of 466119168, others in BROADCAST",
		},
	}
}

// crashCases are told by failures of a member's own.
func crashCases() []culpritCase {
	return []culpritCase{
		{
			name: "one rank ran out of GPU memory, the others time out ten minutes later", members: 2, ranks: 16,
			reports: []said{
				{member: 0, from: 1, text: "[rank2]: torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 336.00 MiB. GPU  has a total capacity of 79.15 GiB of which 141.25 MiB is free.\ntrain-w-0:15325:16199 [2] NCCL INFO [Service thread] Connection closed by localRank 2"},
				{member: 1, from: 600, text: timeouts("9", "10") + "[rank11]:[E ProcessGroupNCCL.cpp:1537] [PG 1 Rank 11] Timeout at NCCL work: 15734, last enqueued NCCL work: 15735, last completed NCCL work: 15733."},
			},
			role: RoleCrashed, member: 0, ranksNamed: []int{2}, sure: sureCrashedFirst, because: "rank 2 failed by itself: cuda/oom_torch",
		},
		{
			name: "a traceback after the others complained: still a crash, less sure", members: 2,
			reports: []said{
				{member: 0, from: 0, text: "torch.distributed.DistBackendError: NCCL error in: ../torch/csrc/distributed/c10d/ProcessGroupNCCL.cpp:1333, remote process exited or there was a network error, NCCL version 2.18.6"},
				{member: 1, from: 60, text: "Traceback (most recent call last):\n  File \"train.py\", line 3, in <module>\nKeyError: 'labels'"},
			},
			role: RoleCrashed, member: 1, ranksNamed: []int{1}, sure: sureCrashedLate, because: "rank 1 failed by itself: python/uncaught",
		},
		{
			name: "the same exception on every rank is the program's fault", members: 4,
			reports: []said{
				{member: 0, text: "ValueError: bad shape"}, {member: 1, text: "ValueError: bad shape"}, {member: 2, text: "ValueError: bad shape"}, {member: 3, text: timeouts("3")},
			},
			member: -1, because: "3 of 4 processes report python/uncaught: that is the program's fault",
		},
		{
			name: "two crashes in the same second: suspects, nobody", members: 8,
			reports: []said{
				{member: 2, from: 10, text: "KeyError: 'labels'"}, {member: 5, from: 11, text: "RuntimeError: CUDA error: an illegal memory access was encountered"}, {member: 0, from: 600, text: timeouts("0")},
			},
			member: -1, suspects: []int{2, 5}, because: "too close together",
		},
		{
			name: "the first of two crashes, a minute apart", members: 8,
			reports: []said{
				{member: 5, from: 70, text: "KeyError: 'labels'"}, {member: 2, from: 10, text: "RuntimeError: CUDA error: uncorrectable ECC error encountered"},
			},
			role: RoleCrashed, member: 2, ranksNamed: []int{2}, sure: sureCrashedBefore, because: "cuda/ecc",
		},
	}
}

// namingCases are told by whom the members name.
func namingCases() []culpritCase {
	return []culpritCase{
		{
			name: "most name one address, which is a member's", members: 4,
			reports: []said{
				{member: 0, addresses: []string{"10.0.0.1"}, text: "n0:1:2 [0] NCCL WARN NET/IB : Got completion from peer 10.0.0.3<44206> with status=12 opcode=129 len=65536 vendor err 129 (Recv)"},
				{member: 1, addresses: []string{"10.0.0.2"}, text: "n1:1:2 [0] misc/socket.cc:49 NCCL WARN socketProgress: Connection closed by remote peer 10.0.0.3<57557>"},
				{member: 2, addresses: []string{"10.0.0.3"}, text: "n2:1:2 [0] NCCL WARN NET/IB : Got completion from peer 10.0.0.1<44206> with status=5 opcode=129 len=65536 vendor err 249 (Recv)"},
				{member: 3, addresses: []string{"10.0.0.4"}, text: "RuntimeError: [/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:598] Connection closed by peer [10.0.0.3]:43185"},
			},
			role: RoleNamed, member: 2, sure: sureNamedByMost, because: "3 of 4 processes that lost a peer name member 2",
		},
		{
			name: "an address that belongs to no member", members: 4,
			reports: []said{
				{member: 0, text: "RuntimeError: [/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:598] Connection closed by peer [10.9.9.9]:43185"},
				{member: 1, text: "RuntimeError: [/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:598] Connection closed by peer [10.9.9.9]:43186"},
			},
			role: RoleNamed, member: -1, peer: "10.9.9.9", sure: sureNamedBySome, because: "2 of 2 processes",
		},
		{
			name: "each names the other: either may be it", members: 2,
			reports: []said{
				{member: 0, addresses: []string{"10.0.0.1"}, text: "n0:1:2 [0] NCCL WARN Net : Connection closed by remote peer 10.0.0.2<57557>"},
				{member: 1, addresses: []string{"10.0.0.2"}, text: "n1:1:2 [0] NCCL WARN Net : Connection closed by remote peer 10.0.0.1<57557>"},
			},
			member: -1, suspects: []int{0, 1}, because: "as many name member 1",
		},
		{
			name: "a download that failed is the fault of no peer", members: 2,
			reports: []said{
				{member: 0, text: "Traceback (most recent call last):\n  File \"train.py\", line 3, in <module>\nrequests.exceptions.ConnectionError: HTTPSConnectionPool(host='huggingface.co', port=443): Max retries exceeded with url: /x (Caused by NewConnectionError('<urllib3.connection.HTTPSConnection object at 0x7f>: Failed to establish a new connection: [Errno 111] Connection refused'))"},
				{member: 1, addresses: []string{"10.0.0.2"}, text: "n1:1:2 [0] NCCL WARN Net : Connection closed by remote peer 10.0.0.1<57557>"},
			},
			role: RoleCrashed, member: 0, sure: sureCrashedFirst, ranksNamed: []int{0}, because: "python/connect",
		},
		{
			name: "a monitored barrier names the rank", members: 4,
			reports: []said{{member: 0, text: "[Rank 0]: Rank 3 failed to pass monitoredBarrier in 600000 ms"}},
			role:    RoleNamed, member: 3, sure: sureMissingOfOne, because: "member 3",
		},
		{name: "nothing was said", members: 4, member: -1, because: "no member differs"},
	}
}

func TestCulprit(t *testing.T) {
	c := builtin(t)
	for _, tt := range slices.Concat(waitingCases(), crashCases(), namingCases()) {
		t.Run(tt.name, func(t *testing.T) {
			got := c.Culprit(gangOf(c, tt.members, tt.ranks, tt.reports))
			if got.Role != tt.role || got.Member != tt.member || got.Peer != tt.peer || got.Confidence != tt.sure {
				t.Errorf("got %q, member %d, peer %q, confidence %g (%s); want %q, %d, %q, %g", got.Role, got.Member, got.Peer, got.Confidence, got.Because, tt.role, tt.member, tt.peer, tt.sure)
			}
			if !slices.Equal(got.Ranks, tt.ranksNamed) || !slices.Equal(got.Suspects, tt.suspects) {
				t.Errorf("got ranks %v, suspects %v; want %v, %v", got.Ranks, got.Suspects, tt.ranksNamed, tt.suspects)
			}
			if !strings.Contains(got.Because, tt.because) {
				t.Errorf("because %q; want %q in it", got.Because, tt.because)
			}
		})
	}
}

// TestCulpritDoesNotDependOnOrder feeds the same reports in another order.
func TestCulpritDoesNotDependOnOrder(t *testing.T) {
	c := builtin(t)
	g := gangOf(c, 4, 8, []said{
		{member: 0, text: timeouts("0", "1")},
		{member: 1, text: timeouts("2", "3")},
		{member: 2, text: timeouts("4")},
		{member: 3, text: timeouts("6", "7") + progressLine("6", "808", "811", "807")},
	})
	want := c.Culprit(g)
	if want.Member != 2 || !slices.Equal(want.Ranks, []int{5}) {
		t.Fatalf("the culprit is %+v", want)
	}
	slices.Reverse(g.Reports)
	if got := c.Culprit(g); got.Member != want.Member || got.Confidence != want.Confidence || got.Because != want.Because {
		t.Errorf("in another order it is %+v; want %+v", got, want)
	}
}

// TestCulpritTakesAnything has reports of members, ranks and numbers that cannot be.
func TestCulpritTakesAnything(t *testing.T) {
	c := builtin(t)
	odd := autoheal.Signal{Rule: "pytorch/watchdog_timeout", Failure: autoheal.FailureNetwork, Fields: map[string]string{"rank": "99999999", "seq": "-3", "op": "X", "peer": "?", "suspect": "77"}}
	for _, g := range []Gang{
		{},
		{Members: -1, Ranks: 3},
		{Members: 3, Ranks: 2},
		{Members: 2, Ranks: 2, Reports: []Report{{Member: 9, Signals: []autoheal.Signal{odd, odd, {}}}, {Member: -4, Signals: []autoheal.Signal{odd}}}},
	} {
		if got := c.Culprit(g); got.Confidence < 0 || got.Confidence > 1 {
			t.Errorf("confidence %g", got.Confidence)
		}
	}
}
