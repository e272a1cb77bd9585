// Package drivertest owns the conformance suite of the port: what every autoheal.Cluster, real or simulated, must do.
//
// Tests of drivers, and of the simulator's world, import it; no program does. It knows the port only: it never looks
// inside a driver, and learns what really happened from the Harness. It asserts order, counts and end states, never a
// duration.
package drivertest
