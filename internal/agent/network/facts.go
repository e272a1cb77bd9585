package network

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"autoheal.dev/autoheal/internal/nodeproto"
)

// maxLinks and maxPorts bound what a machine with very many of them tells.
const maxLinks, maxPorts = 32, 32

// Facts reads the state of links and adapters below sys, which is /sys but in tests.
func Facts(sys string) nodeproto.NetworkFacts {
	f := nodeproto.NetworkFacts{Links: []nodeproto.Link{}, RDMA: []nodeproto.Port{}, Pairs: []nodeproto.Pair{}, Missing: []string{}}
	names, err := linkNames(filepath.Join(sys, "class/net"))
	if err != nil {
		f.Missing = append(f.Missing, "links not available: "+err.Error())
	}
	for _, name := range names {
		f.Links = append(f.Links, readLink(filepath.Join(sys, "class/net", name), name))
	}
	f.RDMA, err = ports(filepath.Join(sys, "class/infiniband"))
	if err != nil {
		f.Missing = append(f.Missing, "rdma not available: "+err.Error())
	}
	return f
}

// linkNames lists the interfaces that stand for hardware, or for bonds of it; on a machine that shows none all but loopback.
func linkNames(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, plain(err)
	}
	var all, hardware []string
	for _, e := range entries {
		name := e.Name()
		if name == "lo" {
			continue
		}
		all = append(all, name)
		if exists(filepath.Join(dir, name, "device")) || exists(filepath.Join(dir, name, "bonding")) {
			hardware = append(hardware, name)
		}
	}
	if len(hardware) > 0 {
		all = hardware
	}
	return all[:min(len(all), maxLinks)], nil
}

func readLink(dir, name string) nodeproto.Link {
	sum := func(files ...string) int64 {
		n := int64(0)
		for _, f := range files {
			if v, ok := number(filepath.Join(dir, "statistics", f)); ok {
				n += v
			}
		}
		return n
	}
	l := nodeproto.Link{Name: name, State: "unknown", CarrierChanges: -1, Errors: sum("rx_errors", "tx_errors"), Drops: sum("rx_dropped", "tx_dropped")}
	if state := text(filepath.Join(dir, "operstate")); state != "" {
		l.State = state
	}
	if n, ok := number(filepath.Join(dir, "carrier_changes")); ok {
		l.CarrierChanges = n
	}
	return l
}

// ports reads every port of every RDMA adapter.
func ports(dir string) ([]nodeproto.Port, error) {
	out := []nodeproto.Port{}
	devices, err := os.ReadDir(dir)
	if err != nil {
		return out, plain(err)
	}
	for _, d := range devices {
		numbers, err := os.ReadDir(filepath.Join(dir, d.Name(), "ports"))
		if err != nil {
			continue // an adapter that is going away
		}
		for _, n := range numbers {
			out = append(out, readPort(filepath.Join(dir, d.Name(), "ports", n.Name()), d.Name()+"/"+n.Name()))
		}
	}
	return out[:min(len(out), maxPorts)], nil
}

func readPort(dir, name string) nodeproto.Port {
	p := nodeproto.Port{Name: name, State: "unknown", Counters: map[string]int64{}}
	var states []string
	for _, f := range []string{"state", "phys_state"} { // "4: ACTIVE", "5: LinkUp"
		if _, word, ok := strings.Cut(text(filepath.Join(dir, f)), ": "); ok {
			states = append(states, word)
		}
	}
	if len(states) > 0 {
		p.State = strings.Join(states, " ")
	}
	for _, c := range nodeproto.RDMACounters() {
		for _, sub := range []string{"counters", "hw_counters"} {
			if n, ok := number(filepath.Join(dir, sub, c)); ok {
				p.Counters[c] = n
			}
		}
	}
	return p
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func text(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return "" // not there, or not for this kind of interface
	}
	return strings.TrimSpace(string(data[:min(len(data), 100)]))
}

func number(path string) (int64, bool) {
	n, err := strconv.ParseInt(text(path), 10, 64)
	return n, err == nil
}

// plain says why a folder of /sys cannot be read, in the words of somebody who looks for it.
func plain(err error) error {
	if pe, ok := errors.AsType[*os.PathError](err); ok && slices.Contains([]string{"open", "lstat", "stat"}, pe.Op) {
		return fmt.Errorf("%s: %w", pe.Path, pe.Err)
	}
	return err
}
