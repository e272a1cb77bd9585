package drill

import (
	"fmt"
	"strings"
)

// All lists every drill in the order in which they run. Adding one is a function in its file and a line here.
func All() []Drill {
	return []Drill{
		nodeCrash(), agentCrash(), nodeHang(), nodeFlap(), nodeFence(), selfStop(), massOutage(),
		domainOutage(), cancelled(),
		crashOnce(), crashLoop(), commonCause(), oom(), oomGlobal(),
		serviceHang(), trainStall(), diskFull(),
		gpuLost(), gpuReboot(), gpuReset(), gpuAppFault(), gpuOOM(),
		exhaustion(),
		partition(),
		healerCrash(),
	}
}

// Find returns the drills of the given names, in the order of the names.
func Find(names []string) ([]Drill, error) {
	var out []Drill
	for _, name := range names {
		found := false
		for _, d := range All() {
			if d.Name == name {
				out, found = append(out, d), true
			}
		}
		if !found {
			var known []string
			for _, d := range All() {
				known = append(known, d.Name)
			}
			return nil, fmt.Errorf("there is no drill %q: there are %s", name, strings.Join(known, ", "))
		}
	}
	return out, nil
}
