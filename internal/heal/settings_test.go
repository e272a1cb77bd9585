package heal

import (
	"strings"
	"testing"
)

// scenarios are what the settings of the product description are tried on.
var scenarios = map[string][]string{
	"node": {
		"nodes n1 n2 n3", "run wl-a on=n2 class=medium twice=1", "sync", "advance 1m", "silent n2", "advance 5m",
	},
	"crash": {"nodes n1 n2", "run wl-a on=n1 class=medium for=10s", "sync", "exit wl-a code=1", "advance 3m"},
	"crashes": {
		"nodes n1", "run wl-a on=n1 class=medium for=2s", "sync",
		"exit wl-a code=1", "advance 7s", "exit wl-a code=1", "advance 15s", "exit wl-a code=1", "advance 30s", "exit wl-a code=1", "advance 1m",
	},
	"memory": {"nodes n1", "run wl-a on=n1 class=medium mem=1000 for=5m", "sync", "exit wl-a oom=host_cgroup signal=SIGKILL", "advance 3m"},
}

// TestSettings: behaviour H1. Each setting of the product description with each of its values: what is done and said with it,
// and what is not.
func TestSettings(t *testing.T) {
	const cordon, move, restart, grown = "-> inc-000001/1 cordon node/n2", "start workload/wl-a attempt=2 avoid=[n2]", "start workload/wl-a attempt=2", "start workload/wl-a attempt=2 memory=1500"
	for _, c := range []struct {
		setting, value, scenario string
		want, never              []string
	}{
		{"enabled", "true", "node", []string{cordon, move, "alert node-offline"}, nil},
		{"enabled", "false", "node", []string{"node_offline suspected", "alert node-offline", "is held, disabled: autoHeal.enabled is false"}, []string{"\n-> "}},
		{"enabled", "false", "crash", []string{"crash_loop suspected", "alert crash-loop", "is held, disabled"}, []string{"\n-> "}},

		{"node.offlineGracePeriod", "2m", "node", []string{"+180.000s inc-000001 suspected -> recovering"}, nil},
		{"node.offlineGracePeriod", "3m", "node", []string{"+240.000s inc-000001 suspected -> recovering", "its grace of 3m0s is over"}, []string{"+180."}},
		{"node.autoCordon", "true", "node", []string{cordon}, nil},
		{"node.autoCordon", "false", "node", []string{"step cordon: skipped", move}, []string{"cordon node/n2"}},
		{"node.autoMigrate", "true", "node", []string{move}, nil},
		{"node.autoMigrate", "false", "node", []string{cordon, "autoHeal.node.autoMigrate is false: to move it, run autoheal stop wl-a and submit it again"}, []string{"start workload"}},

		{"workload.maxRestarts", "3", "crashes", []string{"attempt=4", "4 crashes, and at most 3 restarts are allowed", "pause workload/wl-a"}, []string{"attempt=5"}},
		{"workload.maxRestarts", "1", "crashes", []string{"attempt=2", "2 crashes, and at most 1 restart is allowed", "pause workload/wl-a"}, []string{"attempt=3"}},
		{"workload.maxRestarts", "0", "crash", []string{"1 crash, and at most 0 restarts are allowed", "pause workload/wl-a"}, []string{restart}},
		{"workload.restartBackoff", "exponential", "crashes", []string{"+5.433s inc-000001 wl-a: waiting -> stopping", "+17.580s inc-000001 wl-a: waiting -> stopping", "+40.681s inc-000001 wl-a: waiting -> stopping"}, nil},
		{"workload.restartBackoff", "constant", "crashes", []string{"+5.433s inc-000001 wl-a: waiting -> stopping", "+12.290s inc-000001 wl-a: waiting -> stopping", "+26.670s inc-000001 wl-a: waiting -> stopping"}, nil},
		{"workload.restartBackoff", "none", "crashes", []string{"+0.000s inc-000001 wl-a: waiting -> stopping", "+7.000s inc-000001 wl-a: waiting -> stopping", "+22.000s inc-000001 wl-a: waiting -> stopping"}, nil},
		{"workload.oomAutoScale", "true", "memory", []string{grown, "restarted with 1500 MiB"}, []string{"pause workload"}},
		{"workload.oomAutoScale", "false", "memory", []string{"next would be 1500 MiB: autoHeal.workload.oomAutoScale is false", "pause workload/wl-a"}, []string{restart}},

		{"alerts.notifyOnRecovery", "true", "crash", []string{"alert recovered (info)"}, nil},
		{"alerts.notifyOnRecovery", "false", "crash", []string{"recovering -> recovered", "alert crash-loop"}, []string{"alert recovered"}},
		{"alerts.notifyOnFailure", "true", "crash", []string{"alert crash-loop (warning)"}, nil},
		{"alerts.notifyOnFailure", "false", "crash", []string{"recovering -> recovered", "alert recovered"}, []string{"alert crash-loop"}},
		{"alerts.notifyOnFailure", "false", "crashes", []string{"alert needs-a-person (critical)"}, []string{"alert crash-loop"}},
	} {
		t.Run(c.setting+"="+c.value+" "+c.scenario, func(t *testing.T) {
			w := newWorld(t)
			w.do("config autoHeal." + c.setting + "=" + c.value)
			for _, line := range scenarios[c.scenario] {
				w.do(line)
			}
			got := w.out.String()
			for _, s := range c.want {
				if !strings.Contains(got, s) {
					t.Errorf("%q is missing", s)
				}
			}
			for _, s := range c.never {
				if strings.Contains(got, s) {
					t.Errorf("%q must not be there", s)
				}
			}
			if t.Failed() {
				t.Log("\n" + got)
			}
		})
	}
}
