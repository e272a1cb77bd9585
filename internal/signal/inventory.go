package signal

import (
	"strconv"

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
