package signal

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"autoheal.dev/autoheal"
)

// InventoryGPU is a GPU as its node counts it.
type InventoryGPU struct{ UUID, Index string }

// Inventory maps PCI addresses to the GPUs of one node. A nil Inventory knows none.
type Inventory struct{ byPCI map[string]InventoryGPU }

// NewInventory takes the GPUs of a node.
func NewInventory(gpus []autoheal.GPU) *Inventory {
	inv := &Inventory{byPCI: map[string]InventoryGPU{}}
	for _, g := range gpus {
		inv.byPCI[NormalPCI(g.PCI)] = InventoryGPU{UUID: string(g.UUID), Index: strconv.Itoa(g.Index)}
	}
	return inv
}

// Find returns the GPU at an address, in whatever form it is written.
func (inv *Inventory) Find(pci string) (InventoryGPU, bool) {
	if inv == nil || pci == "" {
		return InventoryGPU{}, false
	}
	g, ok := inv.byPCI[NormalPCI(pci)]
	return g, ok
}

// ParseInventory reads what nvidia-smi --query-gpu=index,uuid,pci.bus_id --format=csv prints, with or without its
// heading, its columns in any order.
func ParseInventory(text string) (*Inventory, error) {
	inv := &Inventory{byPCI: map[string]InventoryGPU{}}
	n := 0
	for line := range strings.Lines(text) {
		n++
		var g InventoryGPU
		pci := ""
		for cell := range strings.SplitSeq(line, ",") {
			cell = strings.TrimSpace(cell)
			switch _, err := strconv.Atoi(cell); {
			case err == nil:
				g.Index = cell
			case strings.Count(cell, ":") >= 1:
				pci = NormalPCI(cell)
			case strings.HasPrefix(cell, "GPU-") || strings.HasPrefix(cell, "MIG-"):
				g.UUID = cell
			}
		}
		switch {
		case pci != "" && g.UUID != "" && g.Index != "":
			inv.byPCI[pci] = g
		case n > 1 && strings.TrimSpace(line) != "":
			return nil, fmt.Errorf("line %d: want index, uuid and pci.bus_id of a GPU, got %q", n, strings.TrimSpace(line))
		}
	}
	if len(inv.byPCI) == 0 {
		return nil, errors.New("no GPU: want the output of nvidia-smi --query-gpu=index,uuid,pci.bus_id --format=csv")
	}
	return inv, nil
}
