// Package gpu owns what a node knows of its GPUs: the report of nvidia-smi and its meaning, or simulated ones.
//
// Only internal/agent imports it. It asks the driver through nvidia-smi alone, never twice at once, and never waits for
// a probe that hangs. Simulated GPUs are marked as such and never mixed with real ones.
package gpu
