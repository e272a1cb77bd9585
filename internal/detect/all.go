package detect

// All returns the detectors in order of precedence of their kinds.
func All() []Detector {
	return []Detector{nodeOffline{}, gpuFailure{}, nodeFault{}, networkPartition{}, healthCheck{}, crashLoop{}, resourceExhaustion{}}
}
