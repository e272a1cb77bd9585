package sim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// mutantEnv names the bug that a mutated test binary has in its core.
const mutantEnv = "AUTOHEAL_SIM_MUTANT"

// mutant is a bug in the core itself: a statement at the beginning of one of its functions. The name of the function is
// all that it depends on, so that the core can be worked on without touching this table.
type mutant struct {
	name string
	says string
	fn   string // as it is declared, up to its parameters
	code string
	kind []string // faults that bring it to light; empty = any
	seed uint64   // that caught it last: tried first
}

var mutants = []mutant{
	{"skipped-fence", "a copy on a silent node counts as stopped at once", "func (c *Core) fenceProof(", "return autoheal.ProofSelfStop, true", []string{"cut", "partition", "agent_hang"}, 9},
	{"no-grace", "a node is offline as soon as it is silent", "func (c *Core) graceOver(", "return c.now.Add(-1)", []string{"cut", "flap", "node_crash"}, 0},
	{"storm-ignored", "the observer gate always passes", "func gateObserver(", "return pass", []string{"zone_loss", "partition", "cut", "healer_freeze"}, 0},
	{"settle-ignored", "the settle gate always passes", "func gateSettle(", "return pass", []string{"rack_loss", "rack_power", "cut", "flap", "healer_crash"}, 1},
	{"synced-ignored", "the synced gate always passes", "func gateSynced(", "return pass", []string{"observer_blind", "crash", "cut", "actuator_fails", "actuator_late"}, 0},
	{"kill-switch-ignored", "the kill switch does nothing", "func gateKillSwitch(", "return pass", []string{"operator_pauses", "crash", "node_crash"}, 0},
	{"veto-ignored", "a veto does nothing", "func gateVeto(", "return pass", []string{"operator_vetoes", "cut", "node_crash"}, 6},
	{"maintenance-ignored", "a maintenance window does nothing", "func gateMaintenance(", "return pass", []string{"operator_maintains", "cut", "node_crash"}, 6},
	{"budget-ignored", "the budget gate always passes", "func gateBudget(", "return pass", []string{"operator_drains", "agent_drains"}, 0},
	{"stall-ignored", "a late wake-up voids nothing", "func (c *Core) stalled(", "return", []string{"healer_stall", "healer_freeze", "cut", "node_crash"}, 0},
	{"no-account", "no post-mortem is written", "func (c *Core) writePostMortem(", "return", []string{"crash", "node_crash"}, 0},
	{"nobody-is-told", "what is escalated is not said", "func (c *Core) notifyEnd(", "return", []string{"crash_loop", "capacity_loss"}, 0},
	{"never-paged", "a missed objective is not paged", "func (c *Core) stepPage(", "return", []string{"capacity_loss", "agent_hang"}, 1},
	{"marks-stay", "a node is never returned to service", "func (c *Core) stepMark(", "return", []string{"node_crash", "cut"}, 0},
	{"latching-storm", "a storm never ends", "func (c *Core) stepStorm(", "return", []string{"zone_loss", "observer_blind", "healer_freeze", "cut", "partition"}, 0},
	{"old-copies-stay", "a copy that came back beside its replacement is not stopped", "func (c *Core) stepOld(", "return", []string{"cut", "partition", "node_freeze"}, 0},
	{"state-beside-the-journal", "the state is changed without a record", "func (c *Core) transient(", "c.d.Orderly = !c.d.Orderly", []string{"cut", "node_crash"}, 0},
	{"nobody-is-woken", "what waits for room or for anything else is never looked at again", "func (c *Core) wake(", "return", []string{"capacity_loss", "node_crash", "rack_power"}, 9},
	{"hedge-of-all", "every workload of a class is hedged at once", "func (c *Core) hedgeShare(", "return pass", []string{"cut", "node_crash", "rack_loss", "agent_hang"}, 1},
	{"approval-of-anybody", "an approval is good for whoever wants the same", "func (c *Core) approvals(", "var all []*approval; for _, a := range c.d.find.asked { if a.Verb == p.verb && a.Target.Same(p.target) { all = append(all, a) } }; return all", []string{"operator_asks_first", "crash", "node_crash"}, 2},
	{"approval-for-ever", "an approval is used again and again", "func (c *Core) useApproval(", "return", []string{"operator_asks_first", "crash", "node_crash"}, 9},
	{"never-asks", "the approval gate always passes", "func gateApproval(", "return pass", []string{"operator_asks_first", "crash", "node_crash"}, 0},
	{"hedge-of-any", "what must not run twice is hedged too", "func (c *Core) hedgeable(", "return c.waitsForSilence(i, rec)", []string{"cut", "node_crash", "agent_hang"}, 0},
	{"each-for-itself", "what crash loops have in common is not noticed", "func (c *Core) crashedInCommon(", "return false", []string{"bad_image"}, 1},
	{"counters-run-on", "a crash counts though others share its cause", "func (c *Core) restartInCommon(", "c.count(rec, w, true)", []string{"bad_image"}, 1},
	{"common-is-paused", "who shares a cause with others is paused", "func (c *Core) restartInCommon(", "c.move(i, rec, autoheal.StepWaiting, journal.RecoveryStep{Try: try, Rung: string(policy.StepPause), Reason: \"mutant\"}); return", []string{"bad_image"}, 1},
	{"no-trial", "a critical workload that is paused is never tried again", "func (c *Core) stepTrial(", "return", []string{"crash_loop", "bad_image"}, 0},
	{"protects-nobody", "who gave way gives way again within the hour", "func (c *Core) protected(", "return false", []string{"exhaustion"}, 38},
	{"no-hourly-share", "any number of GPUs changes hands in an hour", "func (c *Core) inHour(", "return pass", []string{"exhaustion"}, 4},
	{"chains", "who gave way stops others in turn", "func (c *Core) chainOf(", "return 0", []string{"exhaustion"}, 86},
	{"gang-torn", "of a gang one rank is stopped", "func (c *Core) stopVictims(", "asked = func(v journal.RoomVictim) bool { return v == rm.Victims[0] }", []string{"exhaustion"}, 29},
	{"places-unsaid", "who stops for somebody is not told for what places", "func (c *Core) roomsFor(", "return nil", []string{"exhaustion"}, 1},
	{"never-given-back", "services keep the replicas that they were left", "func (c *Core) stepBack(", "return", []string{"exhaustion"}, 9},
	{"hedge-at-once", "an extra copy is made as soon as a node is silent", "func (c *Core) hedgeAt(", "return c.now", []string{"cut", "node_crash", "agent_hang"}, 1},
	{"wakes-for-nothing", "what is to be looked at later is looked at at once", "func (c *Core) after(", "t = c.now", []string{"crash", "node_crash", "cut"}, 0},
	{"isolates-on-suspicion", "the suspect of a partition is isolated without evidence", "func (c *Core) whomToIsolate(", "return i.Told.Node, \"it is suspected\"", []string{"rank_silent", "wire_broken"}, 0},
	{"isolates-every-hour", "a gang loses one node after the other", "func (c *Core) isolatedLately(", "return time.Time{}, false", []string{"wire_broken", "wire_broken_under_gang", "link_flaps", "adapter_fails"}, 2},
	{"one-lost-link", "a link that is lost once counts as persistent", "func (c *Core) persistentLink(", "return true", []string{"link_flaps"}, 0},
	{"any-lost-probe", "a node is isolated for what its peers do not reach", "func (i *incident) comparison(", "for _, p := range i.Pairs {\n\t\t\tif p.Lost > 0 {\n\t\t\t\treturn \"a probe was lost\"\n\t\t\t}\n\t\t}\n\t\treturn \"\"", []string{"rank_silent", "wire_broken", "ranks_tie"}, 3},
	{"old-comparison", "a node is isolated on a comparison of long ago", "func (c *Core) stillFails(", "return true", []string{"wire_broken", "wire_broken_under_gang", "rank_silent", "rank_crashes", "link_flaps", "rank_lies", "ranks_tie"}, 8},
	{"liar-believed", "one rank's word is enough to isolate a node", "func (c *Core) record24(", "return \"somebody said so\"", []string{"rank_silent", "rank_lies"}, 0},
	{"back-to-the-suspect", "a gang is started again where it was held up", "func (c *Core) avoid(", "return rec.Avoid", []string{"rank_silent", "wire_broken"}, 0},
	{"stops-unheard", "a gang is stopped before its ranks were heard", "func (c *Core) partitionReady(", "return true", []string{"rank_silent", "wire_broken"}, 0},
	{"crash-takes-the-blame", "a crashed rank's node is told to be the culprit", "func (c *Core) crashAfterAll(", "r.Culprit = c.v.cur[rec.Workload]\n\t\tc.tell(i, rec, r)\n\t\treturn", []string{"rank_crashes", "rank_silent"}, 5},
	{"ends-what-is-well", "what passes its checks again is ended all the same", "func (c *Core) stillFailing(", "return c.v.cur[rec.Members[0]]", []string{"health_flaps", "hangs"}, 0},
	{"hangs-are-no-matter", "what hangs is never ended", "func (c *Core) readyToEnd(", "return false", []string{"hangs"}, 0},
	{"hangs-are-not-seen", "what still hangs when its node is back is not looked at", "func (c *Core) look(", "return", []string{"hangs", "cut", "flap"}, 3},
	{"fault-forgotten", "the incident of a node ends while the node reports its fault", "func (c *Core) lasting(", "return false", []string{"node_disk_full", "machine_check"}, 0},
	{"pressure-at-once", "a shortage counts at once", "func onlyPressure(", "return false", []string{"node_pressure"}, 0},
	{"no-timers", "nothing is looked at again when its time has come", "func (c *Core) after(", "return", []string{"crash", "node_crash"}, 1},
	{"repairs-in-use", "a part counts as empty whatever runs there", "func (c *Core) inUse(", "return nil", []string{"gpu_driver_hung", "gpu_lost", "gpu_reset"}, 0},
	{"repairs-without-end", "no repair is remembered", "func (c *Core) repaired(", "return 0", []string{"gpu_reset_fails"}, 0},
	{"returned-untested", "whatever was given up counts as mended", "func (c *Core) unfit(", "return \"\"", []string{"gpu_lost", "gpu_driver_hung"}, 0},
	{"no-evidence-first", "nothing waits for evidence and marks", "func (c *Core) contained(", "return true", []string{"gpu_reset", "gpu_lost", "gpu_driver_hung"}, 0},
	{"quarantine-for-ever", "a GPU is never returned to service", "func (c *Core) stepGPUMark(", "return", []string{"gpu_reset"}, 0},
}

// TestMutants builds this test once with all bugs in the core, each behind a switch, and runs it once for each: every bug
// must be caught, and it is said by what.
func TestMutants(t *testing.T) {
	if os.Getenv(mutantEnv) != "" {
		t.Skip("this is a mutant")
	}
	if underRace {
		t.Skip("mutants are run without the race detector: they are other programs")
	}
	bin := buildMutants(t)
	var mu sync.Mutex
	var lines []string
	t.Run("planted", func(t *testing.T) {
		for _, m := range mutants {
			t.Run(m.name, func(t *testing.T) {
				t.Parallel()
				cmd := exec.Command(bin, "-test.run=^TestAsMutant$", "-test.v")
				cmd.Env = append(os.Environ(), mutantEnv+"="+m.name)
				out, err := cmd.CombinedOutput()
				line := regexp.MustCompile(`caught .*`).Find(out)
				if err != nil || line == nil {
					t.Fatalf("nobody notices that %s (%v)\n%s", m.says, err, out[:min(len(out), 2000)])
				}
				mu.Lock()
				defer mu.Unlock()
				lines = append(lines, fmt.Sprintf("%-28s %s", m.name, line))
			})
		}
	})
	slices.Sort(lines)
	for _, l := range lines {
		t.Log(l[:min(len(l), 180)])
	}
}

// TestAsMutant runs in the mutated binary.
func TestAsMutant(t *testing.T) {
	name := os.Getenv(mutantEnv)
	i := slices.IndexFunc(mutants, func(m mutant) bool { return m.name == name })
	if i < 0 {
		t.Skip("not a mutant")
	}
	v, seeds := hunt(Config{Kinds: mutants[i].kind, FromSeed: mutants[i].seed}.withDefaults())
	if v == nil {
		t.Fatalf("survived %d seeds", seeds)
	}
	t.Logf("caught by %-16s after %3d seeds, by seed %d: %s", v.Checker, seeds, v.Seed, v.Detail)
}

// buildMutants compiles this package's tests over a copy of internal/heal in which every mutant's code stands behind a
// switch.
func buildMutants(t *testing.T) string {
	dir := t.TempDir()
	heal, err := filepath.Abs("../heal")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(heal, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	sources := map[string][]byte{}
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		if sources[f], err = os.ReadFile(f); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range mutants {
		plant(t, sources, m)
	}
	sources[filepath.Join(heal, "zz_mutant.go")] = []byte("package heal\n\nimport \"os\"\n\nvar mutantName = os.Getenv(\"" + mutantEnv + "\")\n")
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for f, src := range sources {
		copied := filepath.Join(dir, filepath.Base(f))
		if err := os.WriteFile(copied, src, 0o600); err != nil {
			t.Fatal(err)
		}
		overlay.Replace[f] = copied
	}
	data, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "mutants.test")
	if out, err := exec.Command("go", "test", "-c", "-vet=off", "-overlay", filepath.Join(dir, "overlay.json"), "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("build the mutants: %v\n%s", err, out)
	}
	return bin
}

// plant puts a mutant's code at the beginning of its function.
func plant(t *testing.T, sources map[string][]byte, m mutant) {
	planted := 0
	for f, src := range sources {
		at := bytes.Index(src, []byte("\n"+m.fn))
		if at < 0 {
			continue
		}
		open := at + bytes.Index(src[at:], []byte("{\n")) + 2
		code := fmt.Sprintf("\tif mutantName == %q {\n\t\t%s\n\t}\n", m.name, m.code)
		sources[f] = slices.Concat(src[:open], []byte(code), src[open:])
		planted++
	}
	if planted != 1 {
		t.Fatalf("mutant %s: %q was found %d times in internal/heal: name the function that does this now", m.name, m.fn, planted)
	}
}
