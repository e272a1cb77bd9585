package gpu

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"

	"autoheal.dev/autoheal"
)

// maxSimulated is more than any machine has.
const maxSimulated = 64

// memoryOf gives simulated GPUs the memory of the model that they pretend to be, in MiB.
var memoryOf = []struct {
	model string
	mb    int64
}{{"H200", 143771}, {"H100", 81559}, {"A100", 81920}, {"B200", 183359}, {"L40", 46068}, {"T4", 15360}}

// Simulate makes GPUs from N or N:MODEL. Their UUIDs are stable for a node and differ between nodes.
func Simulate(spec, node string) ([]autoheal.GPU, error) {
	count, model, _ := strings.Cut(spec, ":")
	if model == "" {
		model = "SIM"
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > maxSimulated {
		return nil, fmt.Errorf("read simulated GPUs %q: use N or N:MODEL with N from 0 to %d", spec, maxSimulated)
	}
	memory := int64(81559)
	for _, m := range memoryOf {
		if strings.Contains(strings.ToUpper(model), m.model) {
			memory = m.mb
		}
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(node)) // a hash does not fail
	list := make([]autoheal.GPU, n)
	for i := range list {
		list[i] = autoheal.GPU{
			UUID: autoheal.GPUID(fmt.Sprintf("GPU-SIM-%08x-%02d", h.Sum32(), i)), Index: i,
			PCI: fmt.Sprintf("0000:%02x:00.0", 0x10+i), Model: model, Vendor: "nvidia", MemoryMB: memory,
			Health: autoheal.HealthOK, Simulated: true,
		}
	}
	return list, nil
}
