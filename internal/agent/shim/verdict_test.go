package shim

import (
	"testing"

	"golang.org/x/sys/unix"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/agent/cgroup"
)

const (
	killed = unix.WaitStatus(unix.SIGKILL)
	code1  = unix.WaitStatus(1 << 8)
	code0  = unix.WaitStatus(0)
)

func TestExitVerdict(t *testing.T) {
	ownOOM := cgroup.Stat{OOMKills: 1, OwnHits: 3}
	for _, tc := range []struct {
		name string
		end  ending
		want autoheal.Exit
	}{
		{"completed", ending{status: code0}, autoheal.Exit{Reason: autoheal.ExitCompleted}},
		{"crashed", ending{status: code1}, autoheal.Exit{Code: 1, Reason: autoheal.ExitCrashed}},
		{"killed by a stranger", ending{status: killed}, autoheal.Exit{Code: -1, Signal: "SIGKILL", Reason: autoheal.ExitCrashed}},
		{"stopped, even if it ended well", ending{status: code0, asked: autoheal.ExitPreempted}, autoheal.Exit{Reason: autoheal.ExitPreempted}},
		{"not started", ending{startErr: errNotStarted}, autoheal.Exit{Code: -1, Reason: autoheal.ExitStartFailed}},
		{"its node could not", ending{startErr: unix.EBUSY}, autoheal.Exit{Code: -1, Reason: autoheal.ExitNodeFault}},
		{"too late to start", ending{startErr: errLate, asked: autoheal.ExitSelfStop}, autoheal.Exit{Code: -1, Reason: autoheal.ExitSelfStop}},
		{"own limit", ending{status: killed, after: ownOOM}, autoheal.Exit{Code: -1, Signal: "SIGKILL", OOM: autoheal.OOMHostCgroup, Reason: autoheal.ExitCrashed}},
		{"a child was killed, the parent gave up", ending{status: code1, after: ownOOM}, autoheal.Exit{Code: 1, OOM: autoheal.OOMHostCgroup, Reason: autoheal.ExitCrashed}},
		{"a child was killed, the parent coped", ending{status: code0, after: ownOOM}, autoheal.Exit{Reason: autoheal.ExitCompleted}},
		{"killed before it began", ending{status: killed, before: ownOOM, after: ownOOM}, autoheal.Exit{Code: -1, Signal: "SIGKILL", Reason: autoheal.ExitCrashed}},
		{"limit above", ending{status: killed, after: cgroup.Stat{OOMKills: 1, AboveHit: 2}}, autoheal.Exit{Code: -1, Signal: "SIGKILL", OOM: autoheal.OOMHostGlobal, Reason: autoheal.ExitCrashed}},
		{"host", ending{status: killed, after: cgroup.Stat{OOMKills: 1}}, autoheal.Exit{Code: -1, Signal: "SIGKILL", OOM: autoheal.OOMHostGlobal, Reason: autoheal.ExitCrashed}},
		{"both, kernel log silent", ending{status: killed, after: cgroup.Stat{OOMKills: 1, OwnHits: 1, AboveHit: 1}}, autoheal.Exit{Code: -1, Signal: "SIGKILL", OOM: autoheal.OOMHostGlobal, Reason: autoheal.ExitCrashed}},
		{"both, kernel log says own", ending{status: killed, after: cgroup.Stat{OOMKills: 1, OwnHits: 1, AboveHit: 1}, kernel: autoheal.OOMHostCgroup}, autoheal.Exit{Code: -1, Signal: "SIGKILL", OOM: autoheal.OOMHostCgroup, Reason: autoheal.ExitCrashed}},
		{"page cache met its own limit, the host killed it", ending{status: killed, after: ownOOM, kernel: autoheal.OOMHostGlobal}, autoheal.Exit{Code: -1, Signal: "SIGKILL", OOM: autoheal.OOMHostGlobal, Reason: autoheal.ExitCrashed}},
		{"measured", ending{status: killed, measured: true}, autoheal.Exit{Code: -1, Signal: "SIGKILL", OOM: autoheal.OOMHostCgroup, Reason: autoheal.ExitCrashed}},
	} {
		got := tc.end.exit()
		got.Detail = ""
		if got != tc.want {
			t.Errorf("%s: %+v, want %+v", tc.name, got, tc.want)
		}
	}
}

func TestKernelOOM(t *testing.T) {
	const (
		own    = "6,1,2,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/autoheal/n1/wl.1,task_memcg=/autoheal/n1/wl.1,task=python,pid=7,uid=0\n"
		nested = "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),oom_memcg=/autoheal/n1/wl.1/sub,task_memcg=/autoheal/n1/wl.1/sub,task=python,pid=7,uid=0\n"
		above  = "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),oom_memcg=/autoheal/n1,task_memcg=/autoheal/n1/wl.1,task=python,pid=7,uid=0\n"
		host   = "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/autoheal/n1/wl.1,task=python,pid=7,uid=0\n"
		other  = "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),oom_memcg=/autoheal/n1/wl.12,task_memcg=/autoheal/n1/wl.12,task=python,pid=7,uid=0\n"
	)
	for _, tc := range []struct {
		log, path string
		want      autoheal.OOMKind
	}{
		{own, "/autoheal/n1/wl.1", autoheal.OOMHostCgroup},
		{nested, "/autoheal/n1/wl.1", autoheal.OOMHostCgroup},
		{above, "/autoheal/n1/wl.1", autoheal.OOMHostGlobal},
		{host, "/autoheal/n1/wl.1", autoheal.OOMHostGlobal},
		{other, "/autoheal/n1/wl.1", autoheal.OOMNone},
		{own, "/n1/wl.1", autoheal.OOMHostCgroup}, // the mount shows only a part of the hierarchy
		{above + own, "/autoheal/n1/wl.1", autoheal.OOMHostCgroup},
		{"", "/autoheal/n1/wl.1", autoheal.OOMNone},
		{own, "", autoheal.OOMNone},
	} {
		if got := kernelOOM(tc.log, tc.path); got != tc.want {
			t.Errorf("kernelOOM(%q, %q) = %q, want %q", tc.log, tc.path, got, tc.want)
		}
	}
}
