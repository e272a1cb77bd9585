package signal

import (
	"slices"
	"testing"
	"time"

	"autoheal.dev/autoheal"
)

// TestVerdicts tells causes from consequences, one case for each reason.
func TestVerdicts(t *testing.T) {
	c := builtin(t)
	for _, tt := range []struct {
		name, text string
		code       string
		action     autoheal.Advice
	}{
		{"the earliest cause", "NVRM: Xid (PCI:0000:05:00): 48, DBE\nNVRM: Xid (PCI:0000:05:00): 79, gone", "nvidia/xid/48", autoheal.AdviceResetGPU},
		{"43 follows", "NVRM: Xid (PCI:0000:05:00): 43, Ch 1\nNVRM: Xid (PCI:0000:05:00): 31, MMU Fault", "nvidia/xid/31", autoheal.AdviceRestartApp},
		{"45 alone", "NVRM: Xid (PCI:0000:05:00): 45, Ch 1", "nvidia/xid/45", autoheal.AdviceNone},
		{"the hardware's own word", "NVRM: Xid (PCI:0000:05:00): 79, gone\nNVRM: Xid (PCI:0000:05:00): 154, GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)", "nvidia/xid/79", autoheal.AdviceResetGPU},
		{"the latest of them", "NVRM: Xid (PCI:0000:05:00): 62, halt\nNVRM: Xid (PCI:0000:05:00): 154, GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)\nNVRM: Xid (PCI:0000:05:00): 154, GPU recovery action changed from 0x1 (GPU Reset Required) to 0x2 (Node Reboot Required)", "nvidia/xid/62", autoheal.AdviceRebootNode},
		{"not of another GPU", "NVRM: Xid (PCI:0000:05:00): 62, halt\nNVRM: Xid (PCI:0000:06:00): 154, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)", "nvidia/xid/62", autoheal.AdviceResetGPU},
		{"the stronger of hexadecimal and text", "NVRM: Xid (PCI:0000:05:00): 154, GPU recovery action changed from 0x0 (None) to 0x1 (Node Reboot Required)", "nvidia/xid/154", autoheal.AdviceRebootNode},
		{"162 takes 163 back", "NVRM: Xid (PCI:0000:05:00): 163, off\nNVRM: Xid (PCI:0000:05:00): 162, on", "", autoheal.AdviceNone},
		{"not of another GPU either", "NVRM: Xid (PCI:0000:05:00): 163, off\nNVRM: Xid (PCI:0000:06:00): 162, on", "nvidia/xid/163", autoheal.AdviceContactSupport},
		{"an all-clear comes after", "NVRM: Xid (PCI:0000:05:00): 162, on\nNVRM: Xid (PCI:0000:05:00): 163, off", "nvidia/xid/163", autoheal.AdviceContactSupport},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := Judge(c.Excerpt([]byte(tt.text), KindKernel, nil))
			if v.Code != tt.code || v.Action != tt.action {
				t.Errorf("%s %s, want %s %s: %q", v.Code, v.Action, tt.code, tt.action, v.Because)
			}
		})
	}
}

// TestSoftwareOnManyGPUs: the same application error on several GPUs is about the workload.
func TestSoftwareOnManyGPUs(t *testing.T) {
	c := builtin(t)
	v := Judge(c.Excerpt([]byte("NVRM: Xid (PCI:0000:05:00): 13, Graphics Exception\nNVRM: Xid (PCI:0000:06:00): 13, Graphics Exception"), KindKernel, nil))
	if v.Failure != autoheal.FailureApp || v.Subject.Kind != autoheal.RefWorkload || !slices.Contains(v.Because, "2 GPUs report the same: that is the application's fault, not a GPU's") {
		t.Errorf("%+v", v)
	}
}

// TestEveryXidHasNameAndAction: no number of the table is left out or half said.
func TestEveryXidHasNameAndAction(t *testing.T) {
	c := builtin(t)
	if n := len(c.tables["xid"]); n != 173 {
		t.Errorf("%d Xids, want 173", n)
	}
	if n := len(c.tables["sxid"]); n != 93 {
		t.Errorf("%d SXids, want 93", n)
	}
	for _, table := range []string{"xid", "sxid"} {
		for number, m := range c.tables[table] {
			if m.Name == "" || m.Action == "" || m.Failure == "" || m.Severity == "" || m.Source == "" || m.Because == "" {
				t.Errorf("%s %s: %+v", table, number, m)
			}
			if m.Severity == Critical && m.Action == autoheal.AdviceNone {
				t.Errorf("%s %s is critical, and nothing is done about it", table, number)
			}
		}
	}
	if n := len(c.nvlink); n != 94 {
		t.Errorf("%d rows of NVLink, want 94", n)
	}
	counts := map[string]int{}
	for _, r := range c.nvlink {
		counts[r.action]++
	}
	if counts["none"] != 45 || counts["reset_gpu"] != 41 || counts["xid154"] != 8 {
		t.Errorf("NVLink actions: %v", counts)
	}
}

// TestOOMFields takes victim, limit and memory from the lines before the kill.
func TestOOMFields(t *testing.T) {
	c := builtin(t)
	found := c.Excerpt([]byte(`a b invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0
memory: usage 8388608kB, limit 8388608kB, failcnt 128
Task in /docker/x killed as a result of limit of /docker
Memory cgroup out of memory: Killed process 7 (python3) total-vm:1kB, anon-rss:8225208kB, file-rss:2kB
oom_reaper: reaped process 7 (python3), now anon-rss:0kB`), KindKernel, nil)
	if len(found) != 3 || found[0].Code != "memory/oom_cgroup" || found[1].Code != found[0].Code || !found[2].Benign {
		t.Fatalf("%+v", found)
	}
	for k, want := range map[string]string{"victim": "python3", "pid": "7", "anon_rss": "8225208", "limit": "8388608", "oom_memcg": "/docker", "task_memcg": "/docker/x", "invoker": "a b"} {
		if got := found[1].Fields[k]; got != want {
			t.Errorf("%s is %q, want %q", k, got, want)
		}
	}
}

// TestInventory names GPUs by their address in any form.
func TestInventory(t *testing.T) {
	inv := NewInventory([]autoheal.GPU{{UUID: "GPU-1", Index: 3, PCI: "00000000:B3:00.0"}})
	for _, pci := range []string{"0000:b3:00", "0000:B3:00.0", "b3:00.0", "00000000:B3:00.0"} {
		if g, ok := inv.Find(pci); !ok || g.UUID != "GPU-1" || g.Index != "3" {
			t.Errorf("%s: %+v", pci, g)
		}
	}
	if _, ok := inv.Find("0001:b3:00"); ok {
		t.Error("another domain is another GPU")
	}
	found := builtin(t).Excerpt([]byte("NVRM: Xid (PCI:0000:b3:00): 79, gone"), KindKernel, inv)
	if found[0].Subject != (autoheal.Ref{Kind: autoheal.RefGPU, ID: "GPU-1"}) {
		t.Errorf("%+v", found[0].Subject)
	}
}

// TestBook expires, clears and bounds.
func TestBook(t *testing.T) {
	c := builtin(t)
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	feed := func(b *Book, text string, at time.Time) {
		s := NewStream(c, nil)
		if f, ok := s.Feed(Line{Text: []byte(text), Kind: KindKernel, Number: 1, At: at}); ok {
			b.Add(f)
		}
	}
	b := NewBook(BookOptions{Texts: 2})
	for range 3 {
		feed(b, "NVRM: Xid (PCI:0000:05:00): 13, a", at)
	}
	for _, text := range []string{"b", "c", "d"} {
		feed(b, "NVRM: Xid (PCI:0000:05:00): 13, "+text, at)
	}
	counts := []int{}
	for _, e := range b.Entries() {
		counts = append(counts, e.Count)
	}
	slices.Sort(counts)
	if !slices.Equal(counts, []int{1, 2, 3}) { // b; c and d as one; a
		t.Errorf("counts %v", counts)
	}
	if b.Expire(at.Add(30 * time.Minute)); len(b.Entries()) != 3 {
		t.Error("expired too early")
	}
	if b.Expire(at.Add(2 * time.Hour)); len(b.Entries()) != 0 {
		t.Error("did not expire")
	}
	feed(b, "NVRM: Xid (PCI:0000:05:00): 79, gone", at)
	if b.Clear("nvidia/xid"); len(b.Entries()) != 0 || b.Withdrawn != 1 {
		t.Error("was not cleared")
	}
	small := NewBook(BookOptions{Entries: 1})
	feed(small, "NVRM: Xid (PCI:0000:05:00): 79, gone", at)
	feed(small, "NVRM: Xid (PCI:0000:06:00): 79, gone", at)
	if small.Dropped != 1 || len(small.Entries()) != 1 {
		t.Errorf("%d dropped, %d kept", small.Dropped, len(small.Entries()))
	}
}

// TestReplays believes nothing twice and nothing old, across restarts and boots.
func TestReplays(t *testing.T) {
	r := NewReplays(5*time.Minute, Mark{})
	fresh := func(boot string, seq uint64, age time.Duration) bool { return r.Fresh(Mark{boot, seq}, age) }
	if !fresh("a", 1, 0) || !fresh("a", 2, time.Minute) || fresh("a", 3, time.Hour) {
		t.Error("first reading")
	}
	r = NewReplays(5*time.Minute, r.Mark())
	if fresh("a", 2, 0) || fresh("a", 3, 0) || !fresh("a", 4, 0) || !fresh("b", 1, 0) || fresh("b", 1, 0) {
		t.Error("after a restart")
	}
	if r.Repeated != 3 || r.Old != 0 {
		t.Errorf("%d repeated, %d old", r.Repeated, r.Old)
	}
}

// Whatever a workload writes, no verdict over it is sure enough to hold its end against the machine (behaviour E3).
func TestWorkloadNeverClearsItself(t *testing.T) {
	c := builtin(t)
	for _, line := range []string{
		"RuntimeError: CUDA error: uncorrectable ECC error encountered",
		"Unable to determine the device handle for GPU 0000:05:00.0: GPU is lost.  Reboot the system to recover this GPU",
		"NVRM: Xid (PCI:0000:05:00): 79, pid=1, GPU has fallen off the bus.",
		"WARNING: infoROM is corrupted at gpu 0000:05:00.0",
		"SXid (PCI:0000:05:00.0): 20034, Fatal, Link 30 LTSSM Fault Up",
	} {
		v := autoheal.Verdict(Judge(c.Excerpt([]byte(line+"\n"), KindWorkload, nil)))
		exit := autoheal.Exit{Reason: autoheal.ExitCrashed, Verdict: &v}
		if exit.MachineFault() {
			t.Errorf("%q clears who writes it: %s, confidence %g", line, v.Code, v.Confidence)
		}
	}
	v := autoheal.Verdict(Judge(c.Excerpt([]byte("[ 1843.308145] NVRM: Xid (PCI:0000:05:00): 79, pid=1, GPU has fallen off the bus.\n"), KindKernel, nil)))
	if exit := (autoheal.Exit{Reason: autoheal.ExitCrashed, Verdict: &v}); !exit.MachineFault() {
		t.Errorf("the kernel is not believed: %+v", v)
	}
}

// TestKernelEvents: what node-problem-detector passes on is the kernel's word in a mixed log, and a quotation in the
// output of a workload.
func TestKernelEvents(t *testing.T) {
	c := builtin(t)
	text := []byte("  Warning  Ext4Error    2m13s (x2 over 2m13s)  kernel-monitor  EXT4-fs error (device nvme9n1): ext4_find_entry:1455: inode #2: comm ls: reading directory lblock 0\n" +
		"  Warning  Unhealthy  2m  kubelet  EXT4-fs error (device nvme8n1): says a probe\n")
	for kind, want := range map[Kind]int{KindAny: 1, KindWorkload: 0} {
		found := c.Excerpt(text, kind, nil)
		if len(found) != want || want == 1 && (found[0].Code != "disk/ext4_error" || found[0].Fields["device"] != "nvme9n1") {
			t.Errorf("%s: %+v", kind, found)
		}
	}
}
